using System.Globalization;
using System.Numerics;
using CsCheck;
using Microsoft.Extensions.Primitives;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore.Tests;

public sealed class HeaderBudgetTests
{
    private const int Cases = 100_000;

    private static readonly Gen<string> GenPiece = Gen.OneOf(
        Gen.ULong[0, 9_999_999_999_999_999_999].Select(number => number.ToString(CultureInfo.InvariantCulture)),
        Gen.Int[0, 100_000].Select(number => number.ToString("D7", CultureInfo.InvariantCulture)),
        Gen.String[Gen.Char["0123456789+-.eE,; \t\0\u0660\u0e51\uff11"], 0, 24],
        Gen.OneOf("", "0", "-1", "+1", "1.5", "1e3", "10ms", "0x10", "1 000", "1_000", "\u0661\u0662", "\u0e52", "\u00b2", "9223372036854775807", "9999999999999999999", "00000000000000000000"),
        Gen.String);

    /// <summary>What goes over the wire and one change to it.</summary>
    private static readonly Gen<string> GenMutated = Gen.Select(Gen.ULong[0, 9_999_999_999_999_999_999], Gen.Int[0, 19], Gen.Char, Gen.Int[0, 3])
        .Select((number, at, with, how) =>
        {
            string text = number.ToString(CultureInfo.InvariantCulture);
            at = Math.Min(at, text.Length);
            return how switch
            {
                0 => text.Insert(at, with.ToString()),
                1 => text[..at] + with + text[Math.Min(at + 1, text.Length)..],
                2 => text[..at],
                _ => text,
            };
        });

    private static readonly Gen<string> GenLine = Gen.OneOf(GenPiece, GenMutated, Gen.Select(GenMutated, GenPiece, (a, b) => $"{a}, {b}"), GenPiece.Array[1, 5].Select(pieces => string.Join(',', pieces)));

    [Theory]
    [InlineData("0", 0)]
    [InlineData("1", 1)]
    [InlineData("1840", 1840)]
    [InlineData("0000000000000000007", 7)]
    [InlineData("922337203685476", 922337203685476)]
    [InlineData("300, 200", 200)]
    [InlineData("200,300\t, 400", 200)]
    [InlineData(" 25 ", 25)]
    public void Digits_are_milliseconds_and_the_least_of_several_counts(string line, long milliseconds)
    {
        bool good = HeaderBudget.TryParse(line, out TimeSpan budget);

        good.Should().BeTrue();
        budget.Should().Be(TimeSpan.FromMilliseconds(milliseconds));
    }

    [Theory]
    [InlineData("922337203685478")]
    [InlineData("9223372036854775808")]
    [InlineData("9999999999999999999")]
    public void More_than_a_time_span_holds_is_the_longest_there_is(string line)
    {
        bool good = HeaderBudget.TryParse(line, out TimeSpan budget);

        good.Should().BeTrue();
        budget.Should().Be(TimeSpan.MaxValue);
    }

    [Theory]
    [InlineData("")]
    [InlineData(" ")]
    [InlineData(",")]
    [InlineData("100,")]
    [InlineData(",100")]
    [InlineData("100,,200")]
    [InlineData("100;200")]
    [InlineData("-1")]
    [InlineData("+1")]
    [InlineData("1.5")]
    [InlineData("1e3")]
    [InlineData("100ms")]
    [InlineData("1 000")]
    [InlineData("\u0661\u0662")]
    [InlineData("10000000000000000000")]
    [InlineData("00000000000000000000")]
    [InlineData("100, x")]
    [InlineData("\u00a0100")]
    public void Anything_else_is_no_budget(string line)
    {
        bool good = HeaderBudget.TryParse(line, out TimeSpan budget);

        good.Should().BeFalse();
        budget.Should().Be(TimeSpan.Zero);
    }

    [Fact]
    public void Of_several_lines_each_must_be_good()
    {
        bool good = HeaderBudget.TryParse(new StringValues(["900", "300, 500"]), out TimeSpan budget);
        bool bad = HeaderBudget.TryParse(new StringValues(["900", "-1"]), out _);
        bool none = HeaderBudget.TryParse(StringValues.Empty, out _);
        bool empty = HeaderBudget.TryParse(new StringValues([null, "1"]), out _);

        (good, bad, none, empty).Should().Be((true, false, false, false));
        budget.Should().Be(TimeSpan.FromMilliseconds(300));
    }

    [Theory]
    [InlineData("")]
    [InlineData("th-TH")]
    [InlineData("tr-TR")]
    [InlineData("ar-SA")]
    public void Whatever_comes_is_read_as_the_contract_says_and_nothing_throws(string culture)
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        try
        {
            CultureInfo.DefaultThreadCurrentCulture = CultureInfo.CurrentCulture = CultureInfo.GetCultureInfo(culture);

            GenLine.Array[1, 3].Sample(
                lines =>
                {
                    TimeSpan? expected = Expected(lines);
                    return HeaderBudget.TryParse(lines, out TimeSpan budget) == expected.HasValue && budget == (expected ?? default);
                },
                iter: Cases);
        }
        finally
        {
            CultureInfo.DefaultThreadCurrentCulture = null;
            CultureInfo.CurrentCulture = before;
        }
    }

    [Fact]
    public void Reading_allocates_nothing_and_takes_time_in_proportion()
    {
        var many = new StringValues([.. Enumerable.Repeat("1840, 1900", 1_000)]);
        HeaderBudget.TryParse(many, out _);
        long before = GC.GetAllocatedBytesForCurrentThread();

        HeaderBudget.TryParse(many, out TimeSpan budget);

        (GC.GetAllocatedBytesForCurrentThread() - before).Should().Be(0);
        budget.Should().Be(TimeSpan.FromMilliseconds(1840));
    }

    /// <summary>The page of the contract, word for word.</summary>
    private static TimeSpan? Expected(string[] lines)
    {
        var values = new List<BigInteger>();
        foreach (string value in lines.SelectMany(line => line.Split(',')).Select(value => value.Trim(' ', '\t')))
        {
            if (value.Length is < 1 or > 19 || value.Any(digit => digit is < '0' or > '9'))
            {
                return null;
            }

            values.Add(BigInteger.Parse(value, CultureInfo.InvariantCulture));
        }

        BigInteger ticks = values.Min() * TimeSpan.TicksPerMillisecond;
        return ticks >= TimeSpan.MaxValue.Ticks - TimeSpan.TicksPerMillisecond ? TimeSpan.MaxValue : new TimeSpan((long)ticks);
    }
}
