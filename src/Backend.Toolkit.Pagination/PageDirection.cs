namespace Backend.Toolkit.Pagination;

/// <summary>Which way a page is read from a position. The items of a page are in the keyset's order either way.</summary>
public enum PageDirection
{
    /// <summary>The rows after the position; without a cursor, the first page.</summary>
    Forward,

    /// <summary>The rows before the position; without a cursor, the last page.</summary>
    Backward,
}
