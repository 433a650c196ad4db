using System.Linq.Expressions;
using Backend.Toolkit.Pagination.Tests;
using CsCheck;
using Microsoft.EntityFrameworkCore;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore.Tests;

/// <summary>What cannot be paged is refused at the first use, with the name of what is at fault; what a request can do wrong has exceptions of its own.</summary>
public sealed class RefusalTests(PostgreSqlServer postgres)
{
    private static readonly CursorPaginator Paginator = Paginators.New();
    private static readonly Keyset<ShopOrder> Newest = Keyset.For<ShopOrder>().Descending(o => o.CreatedAt).Unique(o => o.Id);

    [Fact]
    public async Task SQLite_orders_no_decimals_offsets_spans_or_unsigned_longs_and_the_advice_says_what_to_do()
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(Provider.Sqlite, postgres);
        await using ShopContext context = database.Context();

        await RefusedAsync(context.Odds, Keyset.For<Odd>().Ascending(o => o.Price).Unique(o => o.Id), "Price", "*text*long*double*");
        await RefusedAsync(context.Odds, Keyset.For<Odd>().Ascending(o => o.At).Unique(o => o.Id), "At", "*DateTimeOffset*DateTime in UTC*");
        await RefusedAsync(context.Odds, Keyset.For<Odd>().Ascending(o => o.Duration).Unique(o => o.Id), "Duration", "*TimeSpan*ticks*long*");
        await RefusedAsync(context.Odds, Keyset.For<Odd>().Ascending(o => o.Big).Unique(o => o.Id), "Big", "*2^63*long*");
        await RefusedAsync(context.Odds, Keyset.For<Odd>().Ascending(o => o.Price * 2, column: "Double").Unique(o => o.Id), "Double", "*text*");
        await RefusedAsync(context.Odds.Select(o => new { o.Id, When = o.At }), keys => keys.Ascending(row => row.When).Unique(row => row.Id), "When", "*DateTimeOffset*");
    }

    [Fact]
    public async Task Converted_to_what_SQLite_orders_they_page()
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(Provider.Sqlite, postgres);
        await using ShopContext context = database.Context();
        var keyset = Keyset.For<Odd>().Ascending(o => o.Rate).Descending(o => o.Instant).Unique(o => o.Id);
        int[] expected = [.. Enumerable.Range(1, 66).OrderBy(i => i % 6).ThenByDescending(i => i % 5).ThenByDescending(i => i)];

        await Walk.CheckAsync(expected, [7, 4], o => o.Id, request => context.Odds.AsNoTracking().ToPageAsync(Paginator, keyset, request));
    }

    [Fact]
    public async Task PostgreSQL_pages_them_all_as_they_are()
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(Provider.PostgreSql, postgres);
        await using ShopContext context = database.Context();
        var keyset = Keyset.For<Odd>().Ascending(o => o.Price).Descending(o => o.At).Ascending(o => o.Duration).Unique(o => o.Big);
        int[] expected = [.. Enumerable.Range(1, 66).OrderBy(i => i % 6).ThenByDescending(i => i % 5).ThenBy(i => i % 30).ThenBy(i => i)];

        await Walk.CheckAsync(expected, [7, 4], o => o.Id, request => context.Odds.AsNoTracking().ToPageAsync(Paginator, keyset, request));
    }

    [Fact]
    public async Task A_column_that_may_be_null_is_refused_where_the_keyset_says_that_it_is_not()
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(Provider.Sqlite, postgres);
        await using ShopContext context = database.Context();

        await RefusedAsync(context.Orders, Keyset.For<ShopOrder>().Ascending(o => o.Note!).Unique(o => o.Id), "Note", "*may be null*nulls: NullOrder.First or NullOrder.Last*");
        await RefusedAsync(context.Orders, Keyset.For<ShopOrder>().Ascending(o => o.Customer!.Name, column: "customer").Unique(o => o.Id), "customer", "*may be null*");
        await RefusedAsync(context.Orders, Keyset.For<ShopOrder>().Ascending(o => o.Customer!.Id, column: "customer").Unique(o => o.Id), "customer", "*may be null*");
    }

    [Theory]
    [InlineData(Provider.Sqlite)]
    [InlineData(Provider.PostgreSql)]
    public async Task A_computed_key_that_may_come_out_null_is_refused_too(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();

        await RefusedAsync(context.Orders, Keyset.For<ShopOrder>().Ascending(o => o.Note!.ToUpper(), column: "upper").Unique(o => o.Id), "upper", "*may be null*??*");
        await RefusedAsync(context.Orders, Keyset.For<ShopOrder>().Ascending(o => o.Customer!.Name.Length, column: "length").Unique(o => o.Id), "length", "*may be null*");
        await RefusedAsync(context.Orders, Keyset.For<ShopOrder>().Ascending(o => o.CustomerId!.Value + 1, column: "next").Unique(o => o.Id), "next", "*may be null*");
        await RefusedAsync(context.Orders, Keyset.For<ShopOrder>().Ascending(o => o.Id > 5 ? o.Note! : "", column: "some").Unique(o => o.Id), "some", "*may be null*");
    }

    [Theory]
    [InlineData(Provider.Sqlite)]
    [InlineData(Provider.PostgreSql)]
    public async Task A_computed_key_that_says_what_stands_for_null_pages(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        var keyset = Keyset.For<ShopOrder>().Ascending(o => o.Note ?? "", column: "note").Ascending(o => o.Note == null, column: "none").Ascending(o => o.CustomerId.HasValue, column: "has").Ascending(o => o.CustomerId.GetValueOrDefault(), column: "customer").Unique(o => o.Id);
        int[] expected = [.. await context.Orders.OrderBy(o => o.Note ?? "").ThenBy(o => o.CustomerId != null).ThenBy(o => o.CustomerId ?? 0).ThenBy(o => o.Id).Select(o => o.Id).ToListAsync()];

        await Walk.CheckAsync(expected, [7, 4], o => o.Id, request => context.Orders.ToPageAsync(Paginator, keyset, request));
    }

    [Theory]
    [InlineData(Provider.Sqlite)]
    [InlineData(Provider.PostgreSql)]
    public async Task A_column_of_rows_that_are_no_entities_is_followed_to_what_may_be_null(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();

        await RefusedAsync(context.Orders.Select(o => new { o.Id, Text = o.Note! }).Where(row => row.Id > 0), keys => keys.Ascending(row => row.Text).Unique(row => row.Id), "Text", "*may be null*");
        await RefusedAsync(context.Orders.Select(o => new { o.Id, Text = o.Note! }).Select(row => new { row.Id, Name = row.Text }), keys => keys.Ascending(row => row.Name).Unique(row => row.Id), "Name", "*may be null*");
        await RefusedAsync(context.Orders.GroupBy(o => o.Note!).Select(group => new { group.Key, Count = group.Count() }), keys => keys.Unique(row => row.Key), "Key", "*may be null*");
    }

    [Theory]
    [InlineData(Provider.Sqlite)]
    [InlineData(Provider.PostgreSql)]
    public async Task A_column_of_a_derived_type_is_null_in_rows_of_the_others(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        int[] expected = [.. await context.Vehicles.OrderBy(v => ((Lorry)v).Plate == null).ThenBy(v => ((Lorry)v).Plate).ThenBy(v => v.Id).Select(v => v.Id).ToListAsync()];

        await RefusedAsync(context.Vehicles, Keyset.For<Vehicle>().Ascending(v => ((Lorry)v).Plate).Unique(v => v.Id), "Plate", "*may be null*");
        await RefusedAsync(context.Vehicles, Keyset.For<Vehicle>().Ascending(v => (v as Lorry)!.Axles).Unique(v => v.Id), "Axles", "*may be null*");

        expected.Should().HaveCount(66);
        await Walk.CheckAsync(expected, [7, 4], v => v.Id, request => context.Vehicles.ToPageAsync(Paginator, Keyset.For<Vehicle>().Ascending(v => ((Lorry)v).Plate, nulls: NullOrder.Last).Unique(v => v.Id), request));
        await Walk.CheckAsync([.. Enumerable.Range(1, 66).Where(i => i % 2 == 0)], [7, 4], v => v.Id, request => context.Vehicles.OfType<Lorry>().ToPageAsync(Paginator, Keyset.For<Lorry>().Ascending(v => v.Plate.Length, column: "length").Unique(v => v.Id), request));
    }

    [Theory]
    [InlineData(Provider.Sqlite)]
    [InlineData(Provider.PostgreSql)]
    public async Task What_has_no_translation_is_named_at_the_first_use(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();

        await RefusedAsync(context.Orders.Where(o => Odd(o.Id)), Newest, "Where", "*Odd*");
        await RefusedAsync(context.Orders.OrderBy(o => o.Id).SkipWhile(o => o.Id < 3), Newest, "SkipWhile", "*SkipWhile*");
        await RefusedAsync(context.Orders, Keyset.For<ShopOrder>().Ascending(o => Reversed(o.Address.City), column: "reversed").Unique(o => o.Id), "reversed", "*Reversed*");
        await RefusedAsync(context.Orders.Select(o => new OrderView(o.Id, o.CreatedAt)), Keyset.For<OrderView>().Descending(v => v.CreatedAt).Unique(v => v.Id), "Select", "*constructor*select*");

        Func<Task> act = () => context.Orders.ToPageAsync(Paginator, Newest, default, o => context.Lines.Where(line => Odd(line.Number)).Select(line => line.OrderId + o.Id).FirstOrDefault());
        (await act.Should().ThrowAsync<PagedQueryException>()).Which.Operator.Should().Be("Select");
        Func<Task> compiled = () => CompiledPageQuery.Create((ShopContext db) => db.Orders.Where(o => Odd(o.Id)), Newest).ToPageAsync(context, Paginator, default);
        (await compiled.Should().ThrowAsync<PagedQueryException>()).Which.Operator.Should().Be("Where");
        Func<Task> explained = () => context.Orders.Where(o => Odd(o.Id)).ExplainPageAsync(Paginator, Newest, default);
        (await explained.Should().ThrowAsync<PagedQueryException>()).Which.Operator.Should().Be("Where");
    }

    [Fact]
    public async Task An_error_that_is_none_of_translation_comes_through_as_it_is()
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(Provider.Sqlite, postgres);
        ShopContext context = database.Context();
        IQueryable<ShopOrder> query = context.Orders.AsNoTracking();
        await context.DisposeAsync();

        Func<Task> act = () => query.ToPageAsync(Paginator, Newest, default);

        await act.Should().ThrowAsync<ObjectDisposedException>();
    }

    [Fact]
    public async Task A_list_is_no_query_and_is_told_where_to_go()
    {
        Func<Task> act = () => new List<ShopOrder>().AsQueryable().ToPageAsync(Paginator, Newest, default);

        await act.Should().ThrowAsync<ArgumentException>().WithMessage("*ToPage*");
    }

    [Fact]
    public async Task A_scalar_query_without_entities_is_refused()
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(Provider.Sqlite, postgres);
        await using ShopContext context = database.Context();
        Keyset<int> keyset = Keyset.For<int>().Unique(number => number, column: "Value");

        Func<Task> act = () => context.Database.SqlQuery<int>($"SELECT Id AS Value FROM shop_orders").ToPageAsync(Paginator, keyset, default);

        await act.Should().ThrowAsync<PagedQueryException>().WithMessage("*does not begin with entities*");
    }

    [Fact]
    public async Task Altered_foreign_and_random_cursors_are_invalid_cursors_and_nothing_else()
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(Provider.Sqlite, postgres);
        await using ShopContext context = database.Context();
        string cursor = (await context.Orders.ToPageAsync(Paginator, Newest, new PageRequest(null, 5), "tenant 7")).Next!;
        database.Witness.Clear();

        Func<Task>[] foreign =
        [
            () => context.Orders.ToPageAsync(Paginator, Newest, new PageRequest(cursor), "tenant 8"),
            () => context.Orders.ToPageAsync(Paginator, Keyset.For<ShopOrder>().Ascending(o => o.CreatedAt).Unique(o => o.Id), new PageRequest(cursor), "tenant 7"),
            () => context.Lines.ToPageAsync(Paginator, Keyset.For<Line>().Ascending(line => line.OrderId).Unique(line => line.Number), new PageRequest(cursor), "tenant 7"),
            () => context.Orders.ToPageAsync(Paginator, Newest, new PageRequest(new string('A', 1_000_000)), "tenant 7"),
            () => CompiledPageQuery.Create((ShopContext db) => db.Orders, Newest).ToPageAsync(context, Paginator, new PageRequest(cursor)),
        ];
        foreach (Func<Task> act in foreign)
        {
            await act.Should().ThrowAsync<InvalidCursorException>();
        }

        for (int i = 0; i < cursor.Length; i++)
        {
            string altered = string.Concat(cursor.AsSpan(0, i), cursor[i] == 'A' ? "B" : "A", cursor.AsSpan(i + 1));
            Func<Task> act = () => context.Orders.ToPageAsync(Paginator, Newest, new PageRequest(altered), "tenant 7");
            await act.Should().ThrowAsync<InvalidCursorException>();
        }

        await Gen.String.Where(text => text.Length > 0).SampleAsync(async text =>
        {
            try
            {
                await context.Orders.ToPageAsync(Paginator, Newest, new PageRequest(text), "tenant 7");
                return false;
            }
            catch (InvalidCursorException)
            {
                return true;
            }
        }, iter: 10_000, threads: 1);
        database.Witness.Statements.Should().BeEmpty("no database has seen any of them");

        Func<Task> negative = () => context.Orders.ToPageAsync(Paginator, Newest, new PageRequest(null, -1));
        await negative.Should().ThrowAsync<InvalidPageSizeException>();
        (await context.Orders.ToPageAsync(Paginators.New(o => o.MaxSize = 30), Newest, new PageRequest(null, int.MaxValue))).Items.Should().HaveCount(30);
    }

    private static bool Odd(int number) => number % 2 == 1;

    private static string Reversed(string text) => new([.. text.Reverse()]);

    private static Task RefusedAsync<T>(IQueryable<T> query, Func<KeysetPrefix<T>, Keyset<T>> keyset, string name, string message) => RefusedAsync(query, keyset(Keyset.For<T>()), name, message);

    private static async Task RefusedAsync<T>(IQueryable<T> query, Keyset<T> keyset, string name, string message)
    {
        Func<Task> act = () => query.ToPageAsync(Paginator, keyset, default);

        (await act.Should().ThrowAsync<PagedQueryException>().WithMessage(message)).Which.Operator.Should().Be(name);
    }
}
