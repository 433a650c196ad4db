using System.Diagnostics.CodeAnalysis;

namespace Backend.Toolkit.Pagination;

/// <summary>
/// A <see cref="PageRequest"/> that <see cref="CursorPaginator.Open{T}"/> has found good: what a source needs to find the page, and what then makes the <see cref="Page{T}"/>. A source reads, in
/// <see cref="Direction"/> from the position on, one row more than <see cref="Size"/>, and whether there is any row behind the position; <see cref="Plan"/> says how.
/// </summary>
/// <typeparam name="T">A row.</typeparam>
public readonly struct KeysetRequest<T>
{
    private readonly CursorPaginator _paginator;
    private readonly string? _scope;
    private readonly CursorPosition _position;

    internal KeysetRequest(CursorPaginator paginator, Keyset<T> keyset, string? scope, int size, PageDirection direction, long? totalLimit)
    {
        _paginator = paginator;
        Keyset = keyset;
        _scope = scope;
        Size = size;
        Direction = direction;
        TotalLimit = totalLimit;
    }

    internal KeysetRequest(CursorPaginator paginator, Keyset<T> keyset, string? scope, int size, PageDirection direction, long? totalLimit, in CursorPosition position)
        : this(paginator, keyset, scope, size, direction, totalLimit)
    {
        HasPosition = true;
        _position = position;
    }

    /// <summary>The order of the rows.</summary>
    public Keyset<T> Keyset { get; }

    /// <summary>The most items of the page: the size asked for, within what is allowed.</summary>
    public int Size { get; }

    /// <summary>Which way the page is read.</summary>
    public PageDirection Direction { get; }

    /// <summary>False: the page is read from the start (backward: from the end), and nothing is behind it.</summary>
    public bool HasPosition { get; }

    /// <summary>Whether a row whose keys equal those of the position is part of the page; otherwise it is behind.</summary>
    public bool IncludesPosition => HasPosition && _position.IsBefore == (Direction == PageDirection.Forward);

    /// <summary>Up to how many rows are counted, one more telling that there are more; <see cref="long.MaxValue"/>: all. Null: no total is wanted.</summary>
    public long? TotalLimit { get; }

    internal int NullMask => _position.NullMask;

    /// <summary>A key of the position.</summary>
    /// <param name="column">The ordinal of the column.</param>
    /// <returns>The key as the row had it; null when it had none.</returns>
    /// <exception cref="InvalidOperationException">There is no position.</exception>
    public object? PositionKey(int column) => Keyset.Columns[column].Access.Read(KeyBytesOf(column));

    /// <summary>A key of the position, without boxing where the column is not nullable.</summary>
    /// <typeparam name="TKey">The column's <see cref="KeysetColumn{T}.KeyType"/>.</typeparam>
    /// <param name="column">The ordinal of the column.</param>
    /// <returns>The key as the row had it.</returns>
    /// <exception cref="InvalidOperationException">There is no position.</exception>
    public TKey PositionKey<TKey>(int column) =>
        Keyset.Columns[column].Access is KeyAccess<T, TKey> access ? access.ReadKey(KeyBytesOf(column)) : (TKey)PositionKey(column)!;

    /// <summary>How the page is found, as a few descents of an index. Made once for each keyset, direction, and set of columns without a value.</summary>
    /// <param name="dialect">Whose null order an index has.</param>
    /// <param name="rowValues">Whether columns may be compared as one row value. SQLite never does: such a comparison loses its last column where that is the <c>INTEGER PRIMARY KEY</c>.</param>
    /// <returns>The plan.</returns>
    public SeekPlan Plan(SqlDialect dialect, bool rowValues = true) =>
        Keyset.Plan(dialect, rowValues && dialect != SqlDialect.Sqlite, Direction, HasPosition, IncludesPosition, NullMask);

    /// <summary>Makes the page of what was read.</summary>
    /// <param name="rows">The rows from the position on, in the order of reading (backward: against the keyset's); up to <see cref="Size"/> + 1, more are ignored.</param>
    /// <param name="behind">Whether there is any row behind the position; false when there is no position.</param>
    /// <returns>The page.</returns>
    public Page<T> ToPage(IReadOnlyList<T> rows, bool behind)
    {
        ArgumentNullException.ThrowIfNull(rows);
        int count = Math.Min(rows.Count, Size);
        T[] items = count == 0 ? [] : new T[count];
        for (int i = 0; i < count; i++)
        {
            items[Direction == PageDirection.Forward ? i : count - 1 - i] = rows[i];
        }

        return Complete(items, rows.Count > Size, behind);
    }

    /// <summary>Makes the page of what was read, when rows were projected to something that lacks the keys, or has them elsewhere.</summary>
    /// <typeparam name="TRow">What was read.</typeparam>
    /// <typeparam name="TItem">An item of the page.</typeparam>
    /// <param name="rows">As above.</param>
    /// <param name="behind">As above.</param>
    /// <param name="item">The item of a row.</param>
    /// <param name="key">The key of a row in the column with that ordinal, of the column's type.</param>
    /// <returns>The page.</returns>
    public Page<TItem> ToPage<TRow, TItem>(IReadOnlyList<TRow> rows, bool behind, Func<TRow, TItem> item, Func<TRow, int, object?> key)
    {
        ArgumentNullException.ThrowIfNull(rows);
        ArgumentNullException.ThrowIfNull(item);
        ArgumentNullException.ThrowIfNull(key);
        int count = Math.Min(rows.Count, Size);
        TItem[] items = count == 0 ? [] : new TItem[count];
        bool isForward = Direction == PageDirection.Forward;
        for (int i = 0; i < count; i++)
        {
            items[isForward ? i : count - 1 - i] = item(rows[i]);
        }

        bool more = rows.Count > Size;
        if (count == 0)
        {
            return Empty<TItem>(behind);
        }

        string? next = (isForward ? more : behind) ? _paginator.Seal(Keyset, new ProjectedKeys<T, TRow>(rows[isForward ? count - 1 : 0], key), PageDirection.Forward, before: false, _scope) : null;
        string? previous = (isForward ? behind : more) ? _paginator.Seal(Keyset, new ProjectedKeys<T, TRow>(rows[isForward ? 0 : count - 1], key), PageDirection.Backward, before: true, _scope) : null;
        return new Page<TItem>(items, next, previous);
    }

    /// <summary>The page of items that are in the keyset's order already.</summary>
    internal Page<T> Complete(T[] items, bool more, bool behind)
    {
        if (items.Length == 0)
        {
            return Empty<T>(behind);
        }

        bool isForward = Direction == PageDirection.Forward;
        string? next = (isForward ? more : behind) ? _paginator.Seal(Keyset, new RowKeys<T>(items[^1]), PageDirection.Forward, before: false, _scope) : null;
        string? previous = (isForward ? behind : more) ? _paginator.Seal(Keyset, new RowKeys<T>(items[0]), PageDirection.Backward, before: true, _scope) : null;
        return new Page<T>(items, next, previous);
    }

    /// <summary>Where nothing is left on this side, the way back begins at the same position.</summary>
    private Page<TItem> Empty<TItem>(bool behind)
    {
        PageDirection back = Direction == PageDirection.Forward ? PageDirection.Backward : PageDirection.Forward;
        string? cursor = behind && HasPosition ? _paginator.Seal(Keyset, new SameKeys<T>(_position.Keys), back, _position.IsBefore, _scope) : null;
        return Direction == PageDirection.Forward ? new Page<TItem>([], next: null, cursor) : new Page<TItem>([], cursor, previous: null);
    }

    internal object? PositionParameter(int column, SqlDialect dialect) => Keyset.Columns[column].Access.ReadParameter(KeyBytesOf(column), dialect);

    internal KeyBound<T>[] Bounds()
    {
        var bounds = new KeyBound<T>[Keyset.Columns.Count];
        for (int i = 0; i < bounds.Length; i++)
        {
            bounds[i] = Keyset.Columns[i].Access.Bound(KeyBytesOf(i));
        }

        return bounds;
    }

    [UnscopedRef]
    private ReadOnlySpan<byte> KeyBytesOf(int column)
    {
        if (!HasPosition)
        {
            throw new InvalidOperationException("A request without a cursor has no position.");
        }

        ReadOnlySpan<byte> rest = _position.Keys.Span;
        for (int i = 0; i < column; i++)
        {
            Keyset.Span[i].Access.TryMeasure(rest, out int size, out _);
            rest = rest[size..];
        }

        return rest;
    }
}
