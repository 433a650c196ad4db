namespace Backend.Toolkit.Pagination;

/// <summary>One column of an ORDER BY.</summary>
/// <param name="Column">The ordinal of the column.</param>
/// <param name="Direction">Which way the rows are read, which is against the keyset when the page is read backward.</param>
/// <param name="Nulls">Where nulls stand; null: where the database has them by itself, or nowhere.</param>
public readonly record struct SeekOrder(int Column, SortDirection Direction, NullOrder? Nulls);
