using System.Globalization;
using System.Linq.Expressions;
using CsCheck;

namespace Backend.Toolkit.Pagination.Tests;

/// <summary>What goes into a cursor comes out bit for bit.</summary>
public sealed class RoundTripTests
{
    private static readonly CursorPaginator Paginator = Paginators.New(o => o.MaxCursorLength = 65_536);

    private enum Tiny : sbyte
    {
        Low = -128,
        High = 127,
    }

    private enum Short : ushort
    {
        High = ushort.MaxValue,
    }

    private enum Wide : ulong
    {
        High = ulong.MaxValue,
    }

    private enum Long : long
    {
        Low = long.MinValue,
    }

    private enum Plain : uint
    {
        High = uint.MaxValue,
    }

    [Fact]
    public void Integers_come_back_exactly()
    {
        Check(Gen.Byte);
        Check(Gen.SByte);
        Check(Gen.Short);
        Check(Gen.UShort);
        Check(Gen.Int);
        Check(Gen.UInt);
        Check(Gen.Long);
        Check(Gen.ULong);
        Check(Gen.Bool);
        Check(Gen.Char);
    }

    [Fact]
    public void Enums_come_back_exactly()
    {
        Check(Gen.SByte.Select(number => (Tiny)number), Tiny.Low, Tiny.High);
        Check(Gen.UShort.Select(number => (Short)number), Short.High);
        Check(Gen.ULong.Select(number => (Wide)number), Wide.High);
        Check(Gen.Long.Select(number => (Long)number), Long.Low);
        Check(Gen.UInt.Select(number => (Plain)number), Plain.High);
        Check(Gen.Int.Select(number => (Status)number), Status.Cancelled);
    }

    [Fact]
    public void Floats_come_back_with_every_bit()
    {
        Check(Gen.Float, BitConverter.SingleToInt32Bits, float.NaN, -0f, float.Epsilon, BitConverter.Int32BitsToSingle(0x7FC00001));
        Check(Gen.Double, BitConverter.DoubleToInt64Bits, double.NaN, -0.0, double.Epsilon, BitConverter.Int64BitsToDouble(0x7FF8000000000001), double.NegativeInfinity);
    }

    [Fact]
    public void Decimals_come_back_with_their_scale()
    {
        Check(Gen.Decimal, value => string.Join(' ', decimal.GetBits(value)), 1m, 1.0m, 1.00m, -0.0m, decimal.MaxValue, decimal.MinValue, 0.0000000000000000000000000001m);
    }

    [Fact]
    public void Times_come_back_with_every_tick_kind_and_offset()
    {
        Check(Gen.DateTime, value => (value.Ticks, value.Kind), DateTime.MinValue, DateTime.MaxValue, new DateTime(5, DateTimeKind.Utc), new DateTime(7, DateTimeKind.Local));
        Check(Gen.DateTimeOffset, value => (value.Ticks, value.Offset), DateTimeOffset.MinValue, DateTimeOffset.MaxValue, new DateTimeOffset(2024, 1, 1, 0, 0, 0, TimeSpan.FromMinutes(-839)));
        Check(Gen.DateOnly, DateOnly.MinValue, DateOnly.MaxValue);
        Check(Gen.TimeOnly, TimeOnly.MinValue, TimeOnly.MaxValue);
        Check(Gen.TimeSpan, TimeSpan.MinValue, TimeSpan.MaxValue);
    }

    [Fact]
    public void Guids_come_back_exactly() => Check(Gen.Guid, Guid.Empty);

    [Fact]
    public void Texts_come_back_exactly_even_with_lone_surrogates()
    {
        Check(Gen.String, "", "\0", "é", "e\u0301", "😀", "\uD83D", "\uDE00\uD83D", "\uFFFD", "\uFEFF", new string('ü', 5000));
        Check(Gen.Char['\uD700', '\uE100'].Array[0, 50].Select(units => new string(units)));
    }

    [Fact]
    public void A_missing_value_comes_back_as_missing()
    {
        Keyset<Box<int?>> number = Keyset.For<Box<int?>>().Ascending(box => box.Value, NullOrder.First, "value").Unique(box => box.Id, "id");
        Keyset<Box<string?>> text = Keyset.For<Box<string?>>().Descending(box => box.Value, "value", NullOrder.Last).Unique(box => box.Id, "id");

        (int? Number, int? Zero, string? Text, string? Empty) read = (
            Open(number, new Box<int?>(null)).PositionKey<int?>(0),
            Open(number, new Box<int?>(0)).PositionKey<int?>(0),
            Open(text, new Box<string?>(null)).PositionKey<string?>(0),
            Open(text, new Box<string?>("")).PositionKey<string?>(0));

        read.Should().Be((null, 0, null, ""));
    }

    [Theory]
    [InlineData("th-TH")]
    [InlineData("tr-TR")]
    [InlineData("ar-SA")]
    public void A_cursor_is_the_same_under_any_culture(string culture)
    {
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.S, "s").Descending(row => row.O, "o").Descending(row => row.M, "m").Descending(row => row.F, "f").Ascending(row => row.E, "e").Unique(row => row.Id, "id");
        var row = new Row { S = "Iıİi", O = new DateTimeOffset(2024, 2, 29, 1, 2, 3, TimeSpan.FromHours(3)), M = -1234.50m, F = 0.1, E = Status.Paid, Id = -5 };
        string invariant = Paginator.Seal(keyset, row, PageDirection.Forward);
        CultureInfo before = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = new CultureInfo(culture);
        try
        {
            string cursor = Paginator.Seal(keyset, row, PageDirection.Forward);
            KeysetRequest<Row> opened = Paginator.Open(keyset, new PageRequest(invariant));

            cursor.Should().Be(invariant);
            Enumerable.Range(0, 6).Select(opened.PositionKey).Should().Equal(row.S, row.O, row.M, row.F, row.E, row.Id);
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    private static void Check<TKey>(Gen<TKey> gen, params TKey[] also)
        where TKey : notnull => Check(gen, value => value, also);

    private static void Check<TKey, TSame>(Gen<TKey> gen, Func<TKey, TSame> exactly, params TKey[] also)
        where TKey : notnull
    {
        Expression<Func<Box<TKey>, TKey>> key = box => box.Value;
        Keyset<Box<TKey>> keyset = Keyset.For<Box<TKey>>().Ascending(key, "value").Unique(box => box.Id, "id");
        Gen.OneOf(gen, also.Length > 0 ? Gen.Int[0, also.Length - 1].Select(i => also[i]) : gen).Sample(value =>
        {
            KeysetRequest<Box<TKey>> opened = Open(keyset, new Box<TKey>(value));

            exactly(opened.PositionKey<TKey>(0)).Should().Be(exactly(value));
            exactly((TKey)opened.PositionKey(0)!).Should().Be(exactly(value));
            opened.PositionKey<int>(1).Should().Be(17);
        }, iter: 1000, threads: 1);
    }

    private static KeysetRequest<T> Open<T>(Keyset<T> keyset, T row) => Paginator.Open(keyset, new PageRequest(Paginator.Seal(keyset, row, PageDirection.Forward)));

    private sealed record Box<TKey>(TKey Value, int Id = 17);
}
