using System.Linq.Expressions;
using System.Text;
using CsCheck;

namespace Backend.Toolkit.Pagination.Tests;

/// <summary>A random schema: which columns, which way, where nulls stand; and the same order said a second time, in the simplest way.</summary>
internal sealed class Schema
{
    private readonly List<(Func<Row, object?> Key, bool IsDescending, NullOrder Nulls)> _order = [];

    public required Keyset<Row> Keyset { get; init; }

    public required string Text { get; init; }

    public override string ToString() => Text;

    /// <summary>The reference: values as databases compare them, nulls where they were declared.</summary>
    public int Compare(Row left, Row right)
    {
        foreach ((Func<Row, object?> key, bool isDescending, NullOrder nulls) in _order)
        {
            (object? x, object? y) = (key(left), key(right));
            int order = (x, y) switch
            {
                (null, null) => 0,
                (null, _) => nulls == NullOrder.First ? -1 : 1,
                (_, null) => nulls == NullOrder.First ? 1 : -1,
                _ => isDescending ? CompareValues(y, x) : CompareValues(x, y),
            };
            if (order != 0)
            {
                return order;
            }
        }

        return 0;
    }

    private static int CompareValues(object x, object y) => (x, y) switch
    {
        (string a, string b) => CompareCodePoints(a, b),
        (double a, double b) => a == b || (double.IsNaN(a) && double.IsNaN(b)) ? 0 : double.IsNaN(a) ? 1 : double.IsNaN(b) ? -1 : a < b ? -1 : 1,
        (Guid a, Guid b) => string.CompareOrdinal(a.ToString(), b.ToString()),
        (Status a, Status b) => ((int)a).CompareTo((int)b),
        _ => ((IComparable)x).CompareTo(y),
    };

    private static int CompareCodePoints(string a, string b)
    {
        using IEnumerator<Rune> right = b.EnumerateRunes().GetEnumerator();
        foreach (Rune rune in a.EnumerateRunes())
        {
            if (!right.MoveNext())
            {
                return 1;
            }

            if (rune.Value != right.Current.Value)
            {
                return rune.Value.CompareTo(right.Current.Value);
            }
        }

        return right.MoveNext() ? -1 : 0;
    }

    /// <summary>Zero to three columns that may be equal, then one that is not.</summary>
    /// <param name="columns">The columns that the source can order.</param>
    public static Gen<Schema> Gen(string columns) =>
        CsCheck.Gen.Select(CsCheck.Gen.Int[0, 3], CsCheck.Gen.Shuffle(columns.Split(' ')), CsCheck.Gen.Bool.Array[4], CsCheck.Gen.Bool.Array[3], CsCheck.Gen.Int[0, 2], CsCheck.Gen.Bool)
            .Select((count, names, descending, nullsLast, tail, ownDirection) => Make([.. names.Take(count)], descending, nullsLast, tail, ownDirection));

    private static Schema Make(string[] names, bool[] descending, bool[] nullsLast, int tail, bool ownDirection)
    {
        KeysetPrefix<Row> prefix = Pagination.Keyset.For<Row>();
        var order = new List<(Func<Row, object?>, bool, NullOrder)>();
        var text = new StringBuilder();
        for (int i = 0; i < names.Length; i++)
        {
            NullOrder nulls = nullsLast[i] ? NullOrder.Last : NullOrder.First;
            (prefix, Func<Row, object?> key) = Add(prefix, names[i], descending[i], nulls);
            order.Add((key, descending[i], nulls));
            text.Append($"{names[i]}{(descending[i] ? " desc" : "")}{(names[i][0] == 'N' ? $" nulls {nulls}" : "")}, ");
        }

        bool last = ownDirection ? descending[3] : names.Length > 0 && descending[names.Length - 1];
        SortDirection? direction = ownDirection ? descending[3] ? SortDirection.Descending : SortDirection.Ascending : null;
        order.Add((tail switch { 0 => row => row.Id, 1 => row => row.LongId, _ => row => row.GuidId }, last, NullOrder.First));
        text.Append($"{(tail switch { 0 => "Id", 1 => "LongId", _ => "GuidId" })}{(last ? " desc" : "")}");
        Schema schema = new()
        {
            Keyset = tail switch
            {
                0 => prefix.Unique(row => row.Id, "id", direction),
                1 => prefix.Unique(row => row.LongId, "long_id", direction),
                _ => prefix.Unique(row => row.GuidId, "guid_id", direction),
            },
            Text = text.ToString(),
        };
        schema._order.AddRange(order);
        return schema;
    }

    private static (KeysetPrefix<Row>, Func<Row, object?>) Add(KeysetPrefix<Row> prefix, string name, bool descending, NullOrder nulls) => name switch
    {
        "I" => (Always(prefix, row => row.I, "i", descending), row => row.I),
        "L" => (Always(prefix, row => row.L, "l", descending), row => row.L),
        "S" => (Always(prefix, row => row.S, "s", descending), row => row.S),
        "G" => (Always(prefix, row => row.G, "g", descending), row => row.G),
        "D" => (Always(prefix, row => row.D, "d", descending), row => row.D),
        "O" => (Always(prefix, row => row.O, "o", descending), row => row.O),
        "M" => (Always(prefix, row => row.M, "m", descending), row => row.M),
        "F" => (Always(prefix, row => row.F, "f", descending), row => row.F),
        "B" => (Always(prefix, row => row.B, "b", descending), row => row.B),
        "E" => (Always(prefix, row => row.E, "e", descending), row => row.E),
        "NI" => (Maybe(prefix, row => row.NI, "ni", descending, nulls), row => row.NI),
        "ND" => (Maybe(prefix, row => row.ND, "nd", descending, nulls), row => row.ND),
        "NG" => (Maybe(prefix, row => row.NG, "ng", descending, nulls), row => row.NG),
        "NF" => (Maybe(prefix, row => row.NF, "nf", descending, nulls), row => row.NF),
        "NS" => (descending ? prefix.Descending(row => row.NS, "ns", nulls) : prefix.Ascending(row => row.NS, "ns", nulls), row => row.NS),
        _ => throw new ArgumentOutOfRangeException(nameof(name), name, null),
    };

    private static KeysetPrefix<Row> Always<TKey>(KeysetPrefix<Row> prefix, Expression<Func<Row, TKey>> key, string column, bool descending) =>
        descending ? prefix.Descending(key, column) : prefix.Ascending(key, column);

    private static KeysetPrefix<Row> Maybe<TKey>(KeysetPrefix<Row> prefix, Expression<Func<Row, TKey?>> key, string column, bool descending, NullOrder nulls)
        where TKey : struct => descending ? prefix.Descending(key, nulls, column) : prefix.Ascending(key, nulls, column);

    /// <summary>Rows with heavy ties, whose values are where types end and orders differ.</summary>
    /// <param name="nan">Whether the source knows NaN.</param>
    public static Gen<Row[]> GenRows(bool nan) => GenRow(nan).Array[0, 40].Select(rows => rows.Select((row, i) => Numbered(row, i)).ToArray());

    public static Gen<Row> GenRow(bool nan)
    {
        Gen<int> ints = OneOf(0, 1, -1, int.MaxValue, int.MinValue);
        Gen<long> longs = OneOf(0L, 1L, long.MaxValue, long.MinValue, 1L << 53, (1L << 53) + 1);
        Gen<string> texts = OneOf("", "a", "A", "aa", "é", "I", "ı", "İ", "\uFFFD", "😀", "\uE000", "'\"", " ", "z\u0001");
        Gen<Guid> guids = OneOf(Guid.Empty, new Guid("00000000-0000-0000-0000-000000000001"), new Guid("01000000-0000-0000-0000-000000000000"), new Guid("ffffffff-ffff-ffff-ffff-ffffffffffff"), new Guid("80000000-8000-8000-8000-000000000000"));
        Gen<DateTime> times = OneOf(
            new DateTime(2024, 2, 29, 23, 59, 59, DateTimeKind.Utc), new DateTime(2024, 2, 29, 23, 59, 59, DateTimeKind.Utc).AddTicks(10), new DateTime(2024, 2, 29, 23, 59, 59, DateTimeKind.Utc).AddTicks(100),
            new DateTime(1, 1, 2, 0, 0, 0, DateTimeKind.Utc), new DateTime(9999, 12, 31, 0, 0, 0, DateTimeKind.Utc), new DateTime(1969, 12, 31, 0, 0, 0, DateTimeKind.Utc).AddTicks(9_999_990));
        Gen<DateTimeOffset> offsets = times.Select(CsCheck.Gen.Int[-14, 14], (time, hours) =>
            time.Year is 1 or 9999 ? new DateTimeOffset(time) : new DateTimeOffset(time).ToOffset(TimeSpan.FromHours(hours)));
        Gen<decimal> decimals = OneOf(0m, 1m, 1.0m, 1.00m, -1.5m, 0.0000001m, 79228162514264337593543950335m, -79228162514264337593543950335m);
        Gen<double> doubles = nan
            ? OneOf(0.0, -0.0, 0.1, -1e300, 1e300, double.Epsilon, double.PositiveInfinity, double.NegativeInfinity, double.NaN)
            : OneOf(0.0, -0.0, 0.1, 0.1 + double.Epsilon, 0.30000000000000004, -1e300, 1e300, double.Epsilon, double.MaxValue);
        Gen<Status> statuses = OneOf(Status.New, Status.Paid, Status.Shipped, Status.Cancelled);

        return CsCheck.Gen.Select(
            CsCheck.Gen.Select(ints, longs, texts, guids, times, offsets, decimals),
            CsCheck.Gen.Select(doubles, CsCheck.Gen.Bool, statuses, ints.Nullable(), texts.Null(), times.Nullable(), CsCheck.Gen.Select(guids.Nullable(), doubles.Nullable())))
            .Select((a, b) => new Row
            {
                I = a.Item1,
                L = a.Item2,
                S = a.Item3,
                G = a.Item4,
                D = a.Item5,
                O = a.Item6,
                M = a.Item7,
                F = b.Item1,
                B = b.Item2,
                E = b.Item3,
                NI = b.Item4,
                NS = b.Item5,
                ND = b.Item6,
                NG = b.Item7.Item1,
                NF = b.Item7.Item2,
            });
    }

    private static Gen<TValue> OneOf<TValue>(params TValue[] values) => CsCheck.Gen.Int[0, values.Length - 1].Select(i => values[i]);

    /// <summary>The same row under an identity of its own, which does not grow with the number.</summary>
    public static Row Numbered(Row row, int number)
    {
        uint mixed = (uint)number * 2_654_435_769;
        return row with { Id = number + 1, LongId = (int)mixed, GuidId = new Guid((int)mixed, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) };
    }
}

internal static class Schemas
{
    public static Row Plain(int id, DateTime d, Status status) => new() { Id = id, LongId = id, GuidId = new Guid(id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), D = d, E = status };
}
