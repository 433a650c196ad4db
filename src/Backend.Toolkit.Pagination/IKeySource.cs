namespace Backend.Toolkit.Pagination;

/// <summary>Where the keys of a cursor come from: a row, something that a row was projected to, or another cursor.</summary>
internal interface IKeySource<T>
{
    /// <summary>The bytes of one key.</summary>
    public int Size(KeysetColumn<T> column);

    /// <summary>Writes one key.</summary>
    /// <returns>The bytes written.</returns>
    public int Write(Span<byte> destination, KeysetColumn<T> column);
}

internal readonly struct RowKeys<T>(T row) : IKeySource<T>
{
    public int Size(KeysetColumn<T> column) => column.Access.Size(row);

    public int Write(Span<byte> destination, KeysetColumn<T> column) => column.Access.Write(destination, row);
}

internal readonly struct ProjectedKeys<T, TRow>(TRow row, Func<TRow, int, object?> key) : IKeySource<T>
{
    public int Size(KeysetColumn<T> column) => column.Access.SizeOf(key(row, column.Ordinal));

    public int Write(Span<byte> destination, KeysetColumn<T> column) => column.Access.WriteOf(destination, key(row, column.Ordinal));
}

/// <summary>The keys of a position, copied as they are.</summary>
internal readonly struct SameKeys<T>(KeyBytes keys) : IKeySource<T>
{
    public int Size(KeysetColumn<T> column) => column.Ordinal == 0 ? keys.Span.Length : 0;

    public int Write(Span<byte> destination, KeysetColumn<T> column)
    {
        if (column.Ordinal > 0)
        {
            return 0;
        }

        keys.Span.CopyTo(destination);
        return keys.Span.Length;
    }
}
