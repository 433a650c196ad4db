namespace Backend.Toolkit.Pagination;

/// <summary>What a caller asks for. Nothing of it is trusted until <see cref="CursorPaginator.Open{T}"/> has looked at it.</summary>
/// <param name="Cursor">A <see cref="Page{T}.Next"/> or <see cref="Page{T}.Previous"/> of another page; null or empty: from the start.</param>
/// <param name="Size">The most items; 0: the default size. It may change between pages.</param>
/// <param name="Direction">Null: that of the cursor, without one forward. Backward without a cursor: the last page.</param>
/// <param name="Total">Whether all rows are counted by a second query.</param>
public readonly record struct PageRequest(string? Cursor = null, int Size = 0, PageDirection? Direction = null, TotalKind Total = TotalKind.None);
