namespace Backend.Toolkit.Pagination;

/// <summary>Which way a column of a keyset is ordered.</summary>
public enum SortDirection
{
    /// <summary>Small values first.</summary>
    Ascending,

    /// <summary>Large values first.</summary>
    Descending,
}
