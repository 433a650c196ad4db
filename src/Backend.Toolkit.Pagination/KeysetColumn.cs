using System.Linq.Expressions;

namespace Backend.Toolkit.Pagination;

/// <summary>One column of a <see cref="Keyset{T}"/>, as it was declared.</summary>
/// <typeparam name="T">A row.</typeparam>
public sealed class KeysetColumn<T>
{
    internal KeysetColumn(int ordinal, string name, string? databaseType, LambdaExpression key, SortDirection direction, NullOrder? nulls, bool isUnique, KeyAccess<T> access)
    {
        Ordinal = ordinal;
        Name = name;
        DatabaseType = databaseType;
        Key = key;
        Direction = direction;
        Nulls = nulls;
        IsUnique = isUnique;
        Access = access;
        ParameterName = "@" + KeysetText<T>.Parameter(ordinal);
    }

    /// <summary>Where the column stands in the keyset, from 0.</summary>
    public int Ordinal { get; }

    /// <summary>The name of the column in SQL; not quoted.</summary>
    public string Name { get; }

    /// <summary>The type in SQL that parameters are cast to; null: that which the database gives them.</summary>
    public string? DatabaseType { get; }

    /// <summary>The expression that was declared: takes a row, gives a <see cref="KeyType"/>.</summary>
    public LambdaExpression Key { get; }

    /// <summary>The type of the key; of a column that may be null a <see cref="Nullable{T}"/> or a reference.</summary>
    public Type KeyType => Key.ReturnType;

    /// <summary>Which way the column is ordered.</summary>
    public SortDirection Direction { get; }

    /// <summary>Where rows without a value stand; null: there are none.</summary>
    public NullOrder? Nulls { get; }

    /// <summary>Whether rows may be without a value.</summary>
    public bool IsNullable => Nulls is not null;

    /// <summary>Whether this is the last column, in which no two rows are equal.</summary>
    public bool IsUnique { get; }

    internal KeyAccess<T> Access { get; }

    /// <summary>With its sign: Microsoft.Data.Sqlite would else try them all, at each execution.</summary>
    internal string ParameterName { get; }

    /// <summary>The key of a row.</summary>
    /// <param name="row">The row.</param>
    /// <returns>The key, null when the row has none.</returns>
    /// <exception cref="InvalidOperationException">The row has none, and the column is not nullable.</exception>
    public object? KeyOf(T row) => Access.Get(row);
}
