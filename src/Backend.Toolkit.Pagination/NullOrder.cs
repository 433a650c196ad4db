namespace Backend.Toolkit.Pagination;

/// <summary>Where rows without a value stand, whichever way the column is ordered.</summary>
public enum NullOrder
{
    /// <summary>Before all values.</summary>
    First,

    /// <summary>After all values.</summary>
    Last,
}
