namespace Backend.Toolkit.Pagination;

/// <summary>A page that a <see cref="PageReader{T}"/> read.</summary>
/// <typeparam name="T">An item.</typeparam>
/// <param name="Items">The items.</param>
/// <param name="Next">The cursor of the next page, or its absolute address, to be saved and resumed from; null: this is the last one.</param>
public sealed record PageRead<T>(IReadOnlyList<T> Items, string? Next);
