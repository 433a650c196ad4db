using Backend.Toolkit.Pagination.Tests;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Storage;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore.Tests;

/// <summary>Whether a page is a seek, told of a table with few rows.</summary>
public sealed class ExplanationTests(PostgreSqlServer postgres)
{
    private static readonly CursorPaginator Paginator = Paginators.New();
    private static readonly Keyset<ShopOrder> Newest = Keyset.For<ShopOrder>().Descending(o => o.CreatedAt).Unique(o => o.Id);
    private static readonly Keyset<ShopOrder> ByDelay = Keyset.For<ShopOrder>().Ascending(o => o.Delay).Unique(o => o.Id);

    public static TheoryData<Provider> Providers => [Provider.Sqlite, Provider.PostgreSql];

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task A_keyset_with_an_index_is_a_seek_on_the_first_page_and_behind_a_cursor_both_ways(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        Page<ShopOrder> first = await context.Orders.ToPageAsync(Paginator, Newest, new PageRequest(null, 5));
        Page<ShopOrder> second = await context.Orders.ToPageAsync(Paginator, Newest, new PageRequest(first.Next, 5));

        foreach (PageRequest request in new[] { new PageRequest(null, 5), new PageRequest(first.Next, 5), new PageRequest(second.Previous, 5), new PageRequest(null, 5, PageDirection.Backward) })
        {
            PageExplanation explanation = await context.Orders.ExplainPageAsync(Paginator, Newest, request);

            explanation.IsSeek.Should().BeTrue(explanation.ToString());
            explanation.MissingIndex.Should().BeNull();
            explanation.Plan.Should().NotBeEmpty();
            explanation.Sql.Should().Contain("shop_orders");
        }
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task A_keyset_without_an_index_is_none_and_the_index_is_named(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        Page<ShopOrder> first = await context.Orders.ToPageAsync(Paginator, ByDelay, new PageRequest(null, 5));

        foreach (string? cursor in new[] { null, first.Next })
        {
            PageExplanation explanation = await context.Orders.ExplainPageAsync(Paginator, ByDelay, new PageRequest(cursor, 5));

            explanation.IsSeek.Should().BeFalse();
            explanation.MissingIndex.Should().Be("shop_orders (Delay, Id)");
            explanation.Problems.Should().Contain(problem => problem.Contains("sorted") || problem.Contains("scanned"));
            explanation.ToString().Should().Contain("Missing index: shop_orders (Delay, Id)");
        }
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task The_index_that_was_named_makes_it_a_seek(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        await context.Database.ExecuteSqlRawAsync("""CREATE INDEX named ON shop_orders ("Tenant", "Delay", "Id")""");
        Page<ShopOrder> first = await context.Orders.ToPageAsync(Paginator, ByDelay, new PageRequest(null, 5));

        PageExplanation explanation = await context.Orders.ExplainPageAsync(Paginator, ByDelay, new PageRequest(first.Next, 5));

        explanation.IsSeek.Should().BeTrue(explanation.ToString());
    }

    [Theory]
    [InlineData(Provider.Sqlite, NullOrder.First)]
    [InlineData(Provider.Sqlite, NullOrder.Last)]
    [InlineData(Provider.PostgreSql, NullOrder.First)]
    [InlineData(Provider.PostgreSql, NullOrder.Last)]
    public async Task Nulls_wherever_they_stand_leave_a_plain_index_a_seek(Provider provider, NullOrder nulls)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        Keyset<ShopOrder> keyset = Keyset.For<ShopOrder>().Ascending(o => o.Note, nulls: nulls).Unique(o => o.Id);
        string? cursor = null;
        do
        {
            PageExplanation explanation = await context.Orders.ExplainPageAsync(Paginator, keyset, new PageRequest(cursor, 9));
            explanation.IsSeek.Should().BeTrue(explanation.ToString());
            cursor = (await context.Orders.AsNoTracking().ToPageAsync(Paginator, keyset, new PageRequest(cursor, 9))).Next;
        }
        while (cursor is not null);
    }

    [Theory]
    [InlineData(Provider.Sqlite, NullOrder.Last)]
    [InlineData(Provider.PostgreSql, NullOrder.First)]
    public async Task Nulls_of_a_later_column_that_stand_elsewhere_than_in_the_index_are_sorted_only_where_they_are_free(Provider provider, NullOrder nulls)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        Keyset<ShopOrder> keyset = Keyset.For<ShopOrder>().Ascending(o => o.Tenant).Ascending(o => o.Note, nulls: nulls).Unique(o => o.Id);
        string? cursor = (await context.Orders.IgnoreQueryFilters().ToPageAsync(Paginator, keyset, new PageRequest(null, 30))).Next;

        PageExplanation explanation = await context.Orders.IgnoreQueryFilters().ExplainPageAsync(Paginator, keyset, new PageRequest(cursor, 9));

        explanation.Problems.Should().NotBeEmpty().And.OnlyContain(problem => problem.Contains("where Tenant > key: the rows are sorted") || problem.Contains("where Tenant < key: the rows are sorted"));
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task A_query_that_ends_in_a_projection_is_explained_too(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        Keyset<OrderModel> keyset = Keyset.For<OrderModel>().Descending(m => m.When).Unique(m => m.Number);
        IQueryable<OrderModel> models = context.Orders.Select(o => new OrderModel { Number = o.Id, When = o.CreatedAt });

        PageExplanation explanation = await models.ExplainPageAsync(Paginator, keyset, default);

        explanation.IsSeek.Should().BeTrue(explanation.ToString());
    }

    [Fact]
    public async Task What_was_set_for_the_judgement_is_undone_and_a_transaction_of_the_caller_goes_on()
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(Provider.PostgreSql, postgres);
        await using ShopContext context = database.Context();
        await using IDbContextTransaction transaction = await context.Database.BeginTransactionAsync();
        await context.Orders.Where(o => o.Id == 1).ExecuteUpdateAsync(update => update.SetProperty(o => o.Note, "kept"));

        await context.Orders.ExplainPageAsync(Paginator, Newest, default);
        string[] within = await SettingsAsync(context);
        await transaction.CommitAsync();
        await context.Orders.ExplainPageAsync(Paginator, Newest, default);
        string[] after = await SettingsAsync(context);

        within.Should().AllBe("on");
        after.Should().AllBe("on");
        (await context.Orders.AsNoTracking().SingleAsync(o => o.Id == 1)).Note.Should().Be("kept");
    }

    private static async Task<string[]> SettingsAsync(ShopContext context) =>
        await context.Database.SqlQuery<string>($"SELECT setting AS \"Value\" FROM pg_settings WHERE name IN ('enable_seqscan', 'enable_bitmapscan', 'enable_sort', 'enable_incremental_sort')").ToArrayAsync();
}
