using System.Collections.Concurrent;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Backend.Toolkit.Pagination;

/// <summary>Begins to declare a <see cref="Keyset{T}"/>: <c>Keyset.For&lt;Order&gt;().Descending(o =&gt; o.CreatedAt, column: "created_at").Unique(o =&gt; o.Id, column: "id")</c>.</summary>
public static class Keyset
{
    /// <summary>A keyset without columns yet; <see cref="KeysetPrefix{T}.Unique{TKey}"/> completes it.</summary>
    /// <typeparam name="T">A row.</typeparam>
    /// <returns>Nothing but a beginning.</returns>
    public static KeysetPrefix<T> For<T>() => new([]);
}

/// <summary>
/// A total order of rows: columns, each with its direction and null order, the last one unique. Declare it once, and keep it in a static field: it holds what is made of it
/// (compiled getters, plans, SQL). Immutable, for all threads. As a comparer it orders rows the way databases do: text by code point, NaN above all numbers.
/// </summary>
/// <typeparam name="T">A row.</typeparam>
public sealed class Keyset<T> : IComparer<T>
{
    private readonly ConcurrentDictionary<int, SeekPlan> _plans = new();
    private readonly KeysetColumn<T>[] _columns;

    internal Keyset(KeysetColumn<T>[] columns)
    {
        _columns = columns;
        Columns = Array.AsReadOnly(columns);
        foreach (KeysetColumn<T> column in columns)
        {
            LargestSize += column.Access.LargestSize;
        }

        // Not FullName: that of a generic type has the versions of assemblies in it, and each release would refuse all cursors.
        var shape = new StringBuilder().Append(typeof(T).ToString());
        foreach (KeysetColumn<T> column in columns)
        {
            shape.Append(CultureInfo.InvariantCulture, $"\n{column.Name}\n{column.Access.Code} {column.Direction} {column.Nulls}");
        }

        ShapeHash = SHA256.HashData(Encoding.UTF8.GetBytes(shape.ToString()))[..CursorSeal.ShapeLength];
    }

    /// <summary>The columns; the last one is unique.</summary>
    public IReadOnlyList<KeysetColumn<T>> Columns { get; }

    internal ReadOnlySpan<KeysetColumn<T>> Span => _columns;

    /// <summary>What tells this keyset from all others: names, types, directions and null orders of the columns, and the name of the row's type.</summary>
    internal byte[] ShapeHash { get; }

    /// <summary>The most bytes that the keys of a row take; null: that varies.</summary>
    internal int? LargestSize { get; } = 0;

    internal KeysetTexts Texts { get; } = new();

    internal int PlanCount => _plans.Count;

    /// <summary>Compares two rows by the keyset's order.</summary>
    /// <param name="x">One row.</param>
    /// <param name="y">The other row.</param>
    /// <returns>Below 0: <paramref name="x"/> comes first.</returns>
    public int Compare(T? x, T? y)
    {
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(y);
        foreach (KeysetColumn<T> column in _columns)
        {
            int order = column.Access.Compare(x, y);
            if (order != 0)
            {
                return Oriented(column, order, column.IsNullable && (column.Access.IsMissing(x) || column.Access.IsMissing(y)));
            }
        }

        return 0;
    }

    /// <summary>Turns a comparison of keys, null below all, into the order of the column.</summary>
    internal static int Oriented(KeysetColumn<T> column, int order, bool isNullInvolved) =>
        (isNullInvolved ? column.Nulls == NullOrder.First : column.Direction == SortDirection.Ascending) ? order : -order;

    internal SeekPlan Plan(SqlDialect dialect, bool rowValues, PageDirection direction, bool hasPosition, bool inclusive, int nullMask)
    {
        int key = (nullMask << 5) | ((int)dialect << 4) | (rowValues ? 8 : 0) | ((int)direction << 2) | (hasPosition ? 2 : 0) | (inclusive ? 1 : 0);
        if (_plans.TryGetValue(key, out SeekPlan? plan))
        {
            return plan;
        }

        if (_plans.Count >= KeysetTexts.Most)
        {
            _plans.Clear();
        }

        return _plans.GetOrAdd(key, SeekPlan.Make(Array.ConvertAll(_columns, column => (column.Direction, column.Nulls)), dialect, rowValues, direction, hasPosition, inclusive, nullMask));
    }
}
