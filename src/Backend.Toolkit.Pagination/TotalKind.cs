namespace Backend.Toolkit.Pagination;

/// <summary>Whether and how the rows of all pages are counted.</summary>
public enum TotalKind
{
    /// <summary>Not at all.</summary>
    None,

    /// <summary>All of them, however many.</summary>
    Exact,

    /// <summary>Up to <see cref="CursorPaginatorOptions.TotalCap"/>.</summary>
    Capped,
}
