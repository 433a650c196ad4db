using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Pagination.Tests;

public sealed class OptionsTests
{
    public static TheoryData<Action<CursorPaginatorOptions>, string> Bad => new()
    {
        { o => o.Keys.Clear(), "orders: Keys must be at least one key *" },
        { o => o.Keys.Add(null!), "orders: Keys must be keys other than null, but is null." },
        { o => o.Keys.Add(new CursorKey(256, Paginators.Secret())), "orders: Keys must be keys with an Id between 0 and 255, but is 256." },
        { o => o.Keys.Add(new CursorKey(1, Paginators.Secret(2))), "orders: Keys must be keys with different Ids, but two have Id 1." },
        { o => o.Keys.Add(new CursorKey(2, new byte[31])), "orders: Keys must be keys with a Secret of at least 32 bytes, but that of Id 2 has 31." },
        { o => o.Keys.Add(new CursorKey(2, null!)), "orders: Keys must be keys with a Secret of at least 32 bytes, but that of Id 2 has 0." },
        { o => o.Expiry = TimeSpan.FromSeconds(9), "orders: Expiry must be null or between 00:00:10 and 3650.00:00:00, but is 00:00:09." },
        { o => o.Expiry = TimeSpan.FromDays(3651), "orders: Expiry must be null or between 00:00:10 and 3650.00:00:00, but is 3651.00:00:00." },
        { o => o.MaxCursorLength = 63, "orders: MaxCursorLength must be between 64 and 65536, but is 63." },
        { o => o.MaxCursorLength = 65_537, "orders: MaxCursorLength must be between 64 and 65536, but is 65537." },
        { o => o.MaxSize = 0, "orders: MaxSize must be between 1 and 1000000, but is 0.; orders: DefaultSize must be between 1 and MaxSize (0), but is 20." },
        { o => o.MaxSize = 1_000_001, "orders: MaxSize must be between 1 and 1000000, but is 1000001." },
        { o => o.DefaultSize = 0, "orders: DefaultSize must be between 1 and MaxSize (100), but is 0." },
        { o => o.DefaultSize = 101, "orders: DefaultSize must be between 1 and MaxSize (100), but is 101." },
        { o => o.TotalCap = 0, "orders: TotalCap must be between 1 and 1000000000, but is 0." },
        { o => o.TotalCap = 1_000_000_001, "orders: TotalCap must be between 1 and 1000000000, but is 1000000001." },
    };

    [Theory]
    [MemberData(nameof(Bad))]
    public void A_value_out_of_range_is_told_with_the_rule_and_the_value(Action<CursorPaginatorOptions> spoil, string sentence)
    {
        CursorPaginator good = Paginators.New();

        Action make = () => Paginators.New(o =>
        {
            o.Name = "orders";
            spoil(o);
        });
        Action update = () => good.Update(Paginators.Options(o =>
        {
            o.Name = "orders";
            spoil(o);
        }));

        make.Should().Throw<OptionsValidationException>().WithMessage(sentence);
        update.Should().Throw<OptionsValidationException>().WithMessage(sentence);
        good.Open(Keyset.For<Row>().Unique(row => row.Id), new PageRequest()).Size.Should().Be(20, "the options in force stay");
    }

    [Fact]
    public void The_ends_of_all_ranges_are_good()
    {
        CursorPaginatorOptions least = Paginators.Options(o => (o.Expiry, o.MaxCursorLength, o.MaxSize, o.DefaultSize, o.TotalCap) = (TimeSpan.FromSeconds(10), 64, 1, 1, 1));
        CursorPaginatorOptions most = Paginators.Options(o => (o.Expiry, o.MaxCursorLength, o.MaxSize, o.DefaultSize, o.TotalCap) = (TimeSpan.FromDays(3650), 65_536, 1_000_000, 1_000_000, 1_000_000_000));

        least.Problems().Concat(most.Problems()).Should().BeEmpty();
    }
}
