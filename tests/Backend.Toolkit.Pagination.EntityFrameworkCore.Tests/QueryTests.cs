using Backend.Toolkit.Pagination.Tests;
using Microsoft.EntityFrameworkCore;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore.Tests;

/// <summary>What queries bring along: filters, includes, owned and JSON parts, conversions, projections, tracking.</summary>
public sealed class QueryTests(PostgreSqlServer postgres)
{
    private static readonly CursorPaginator Paginator = Paginators.New();
    private static readonly Keyset<ShopOrder> Newest = Keyset.For<ShopOrder>().Descending(o => o.CreatedAt).Unique(o => o.Id);
    private static readonly int[] Sizes = [7, 3, 11];

    public static TheoryData<Provider> Providers => [Provider.Sqlite, Provider.PostgreSql];

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task A_query_keeps_its_filters_and_those_of_the_model(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        int[] expected = [.. await context.Orders.Where(o => o.Id % 2 == 0).OrderByDescending(o => o.CreatedAt).ThenByDescending(o => o.Id).Select(o => o.Id).ToListAsync()];

        await Walk.CheckAsync(expected, Sizes, o => o.Id, request => context.Orders.Where(o => o.Id % 2 == 0).ToPageAsync(Paginator, Newest, request));

        expected.Should().HaveCount(30);
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task Keys_may_be_text_of_an_enum_a_converted_value_a_guid_or_of_the_shadow(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        var keyset = Keyset.For<ShopOrder>().Ascending(o => o.Status).Descending(o => EF.Property<int>(o, "Priority"), column: "Priority").Ascending(o => o.Delay).Unique(o => o.Number);
        int[] expected = [.. await context.Orders.OrderBy(o => o.Status).ThenByDescending(o => EF.Property<int>(o, "Priority")).ThenBy(o => o.Delay).ThenBy(o => o.Number).Select(o => o.Id).ToListAsync()];

        await Walk.CheckAsync(expected, Sizes, o => o.Id, request => context.Orders.ToPageAsync(Paginator, keyset, request));

        (await context.Orders.OrderBy(o => o.Status).Select(o => o.Status).FirstAsync()).Should().Be(OrderStatus.Cancelled, "its text comes first");
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task Keys_may_be_reached_by_a_reference_or_be_computed(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        var keyset = Keyset.For<ShopOrder>().Ascending(o => o.Customer!.Name, nulls: NullOrder.Last, column: "customer").Descending(o => o.Address.City, column: "city").Ascending(o => o.Id % 3, column: "third").Unique(o => o.Id);
        int[] expected = [.. await context.Orders.OrderBy(o => o.Customer!.Name == null).ThenBy(o => o.Customer!.Name).ThenByDescending(o => o.Address.City).ThenBy(o => o.Id % 3).ThenBy(o => o.Id).Select(o => o.Id).ToListAsync()];

        await Walk.CheckAsync(expected, Sizes, o => o.Id, request => context.Orders.ToPageAsync(Paginator, keyset, request));
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task Included_references_and_collections_come_along_in_one_statement(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        string? cursor = null;
        var seen = new List<ShopOrder>();
        do
        {
            await using ShopContext context = database.Context();
            database.Witness.Clear();
            Page<ShopOrder> page = await context.Orders.Include(o => o.Lines).Include(o => o.Customer).AsNoTracking().ToPageAsync(Paginator, Newest, new PageRequest(cursor, 8));

            database.Witness.Statements.Should().HaveCount(1);
            seen.AddRange(page.Items);
            cursor = page.Next;
        }
        while (cursor is not null);

        seen.Select(o => o.Id).Should().Equal(seen.OrderByDescending(o => o.CreatedAt).ThenByDescending(o => o.Id).Select(o => o.Id)).And.HaveCount(60);
        seen.Should().AllSatisfy(order =>
        {
            order.Lines.Select(line => line.Product).Should().BeEquivalentTo(Enumerable.Range(1, order.Id % 4).Select(number => $"p{order.Id}.{number}"));
            (order.Customer is null).Should().Be(order.Id % 5 == 0);
            order.Address.City.Should().Be("city " + (order.Id % 4));
        });
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task A_split_query_pages_too(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        int[] expected = [.. await context.Orders.OrderByDescending(o => o.CreatedAt).ThenByDescending(o => o.Id).Select(o => o.Id).ToListAsync()];

        await Walk.CheckAsync(expected, Sizes, o => o.Id, async request =>
        {
            Page<ShopOrder> page = await context.Orders.Include(o => o.Lines).AsSplitQuery().AsNoTracking().ToPageAsync(Paginator, Newest, request);
            page.Items.Should().AllSatisfy(order => order.Lines.Should().HaveCount(order.Id % 4));
            return page;
        });
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task Entities_with_parts_in_JSON_page_in_one_statement(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        var keyset = Keyset.For<Document>().Ascending(d => d.Rank).Unique(d => d.Id);
        int[] expected = [.. Enumerable.Range(1, 66).OrderBy(i => i % 5).ThenBy(i => i)];

        await Walk.CheckAsync(expected, Sizes, d => d.Id, async request =>
        {
            database.Witness.Clear();
            Page<Document> page = await context.Documents.AsNoTracking().ToPageAsync(Paginator, keyset, request);
            database.Witness.Statements.Should().HaveCount(1);
            page.Items.Should().AllSatisfy(document =>
            {
                document.Details.Text.Should().Be("text " + document.Id);
                document.More.Should().ContainSingle().Which.Text.Should().Be("more " + document.Id);
                document.Origin.Place.Should().Be("place " + document.Id);
            });
            return page;
        });
        await Walk.CheckAsync(expected, Sizes, d => d.Id, request => context.Documents.ToPageAsync(Paginator, keyset, request, d => new { d.Id, d.Details.Text, d.Origin.Place }));
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task Owned_collections_come_along(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        var keyset = Keyset.For<Parcel>().Descending(p => p.Weight).Unique(p => p.Id, direction: SortDirection.Ascending);

        await Walk.CheckAsync([.. Enumerable.Range(1, 66).OrderByDescending(i => i % 5).ThenBy(i => i)], Sizes, p => p.Id, async request =>
        {
            Page<Parcel> page = await context.Parcels.AsNoTracking().ToPageAsync(Paginator, keyset, request);
            page.Items.Should().AllSatisfy(parcel => parcel.Stops.Select(stop => stop.City).Should().BeEquivalentTo("a" + parcel.Id, "b" + parcel.Id));
            return page;
        });
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task A_unique_tail_may_be_unique_only_with_the_columns_before(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        var keyset = Keyset.For<Line>().Descending(line => line.OrderId).Unique(line => line.Number, direction: SortDirection.Ascending);
        string[] expected = [.. await context.Lines.OrderByDescending(line => line.OrderId).ThenBy(line => line.Number).Select(line => line.Product).ToListAsync()];

        await Walk.CheckAsync(expected, Sizes, line => line.Product, request => context.Lines.ToPageAsync(Paginator, keyset, request));
        await Walk.CheckAsync(expected, Sizes, line => line.Product, request => context.Lines.ToPageAsync(Paginator, keyset, request, line => new { line.Product, Siblings = context.Lines.Where(other => other.OrderId == line.OrderId).ToList() }));
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task A_projection_after_the_seek_may_leave_out_the_keys(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        string[] expected = [.. (await context.Orders.OrderByDescending(o => o.CreatedAt).ThenByDescending(o => o.Id).Select(o => o.Id).ToListAsync()).Select(id => $"{id}: {id % 4}")];

        await Walk.CheckAsync(expected, Sizes, text => text, request => context.Orders.ToPageAsync(Paginator, Newest, request, o => o.Id + ": " + o.Lines.Count));
        await Walk.CheckAsync(expected, Sizes, item => $"{item.Lines.FirstOrDefault()?.OrderId ?? item.Id}: {item.Lines.Count}", request => context.Orders.ToPageAsync(Paginator, Newest, request, o => new { o.Id, Lines = o.Lines.ToList() }));
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task A_query_that_ends_in_a_projection_is_paged_before_it(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        var keyset = Keyset.For<OrderModel>().Descending(m => m.When).Unique(m => m.Number);
        IQueryable<OrderModel> models = context.Orders.Select(o => new OrderModel { Number = o.Id, When = o.CreatedAt, Products = o.Lines.Select(line => line.Product).ToList() });
        int[] expected = [.. await context.Orders.OrderByDescending(o => o.CreatedAt).ThenByDescending(o => o.Id).Select(o => o.Id).ToListAsync()];

        await Walk.CheckAsync(expected, Sizes, m => m.Number, async request =>
        {
            Page<OrderModel> page = await models.ToPageAsync(Paginator, keyset, request);
            page.Items.Should().AllSatisfy(model => model.Products.Should().HaveCount(model.Number % 4));
            return page;
        });
        await Walk.CheckAsync(expected, Sizes, id => id, request => models.ToPageAsync(Paginator, keyset, request, m => m.Number));
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task Groups_and_other_rows_that_are_no_entities_page(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        var query = context.Orders.GroupBy(o => o.CreatedAt).Select(group => new { At = group.Key, Count = group.Count() }).Where(group => group.Count > 0);

        await CheckGroupsAsync(query, group => group.Count, group => group.At);
        await CheckGroupsAsync(context.Orders.GroupBy(o => o.CreatedAt).Select(group => new { At = group.Key, Count = group.Count() }), group => group.Count, group => group.At);
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task An_included_reference_brings_the_collections_that_it_owns(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        int[] expected = [.. await context.Orders.OrderByDescending(o => o.CreatedAt).ThenByDescending(o => o.Id).Select(o => o.Id).ToListAsync()];

        await Walk.CheckAsync(expected, Sizes, o => o.Id, async request =>
        {
            Page<ShopOrder> page = await context.Orders.Include(o => o.Customer).AsNoTracking().ToPageAsync(Paginator, Newest, request);
            page.Items.Should().AllSatisfy(order => (order.Customer?.Phones.Count ?? 0).Should().Be(order.Customer?.Name == "Ada" ? 2 : 0));
            return page;
        });
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task Parameters_of_SQL_of_ones_own_are_not_taken_for_those_of_the_page(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        const int Most = 20;
        int[] expected = [.. await context.Orders.Where(o => o.Id <= Most).OrderByDescending(o => o.CreatedAt).ThenByDescending(o => o.Id).Select(o => o.Id).ToListAsync()];
        IQueryable<ShopOrder> orders = context.Orders.FromSql($"SELECT * FROM shop_orders WHERE \"Id\" <= {Most}").AsNoTracking();

        await Walk.CheckAsync(expected, Sizes, o => o.Id, request => orders.ToPageAsync(Paginator, Newest, request));
        await Walk.CheckAsync(expected, Sizes, o => o.Id, request => orders.Include(o => o.Lines).ToPageAsync(Paginator, Newest, request));
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task A_projection_may_hand_collections_to_methods_of_the_program(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        string[] expected = [.. (await context.Orders.OrderByDescending(o => o.CreatedAt).ThenByDescending(o => o.Id).Select(o => o.Id).ToListAsync()).Select(id => $"{id}: {id % 4}")];

        await Walk.CheckAsync(expected, Sizes, text => text, request => context.Orders.ToPageAsync(Paginator, Newest, request, o => Described(o.Id, o.Lines.ToList())));
        await Walk.CheckAsync(expected, Sizes, item => item.Text, request => context.Orders.ToPageAsync(Paginator, Newest, request, o => new { Text = "" + Described(o.Id, o.Lines.ToList()) }));
    }

    private static string Described(int id, List<Line> lines) => $"{id}: {lines.Count}";

    private static async Task CheckGroupsAsync<TGroup>(IQueryable<TGroup> query, System.Linq.Expressions.Expression<Func<TGroup, int>> count, System.Linq.Expressions.Expression<Func<TGroup, DateTime>> at)
    {
        Keyset<TGroup> keyset = Keyset.For<TGroup>().Ascending(count, column: "count").Unique(at, column: "at");
        DateTime[] expected = [.. (await query.ToListAsync()).OrderBy(count.Compile()).ThenBy(at.Compile()).Select(at.Compile())];

        await Walk.CheckAsync(expected, [5, 2], at.Compile(), request => query.ToPageAsync(Paginator, keyset, request));

        expected.Should().HaveCount(12);
    }

    [Fact]
    public async Task Rows_are_tracked_when_the_query_tracks_and_not_otherwise()
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(Provider.Sqlite, postgres);
        await using ShopContext context = database.Context();

        Page<ShopOrder> untracked = await context.Orders.AsNoTracking().ToPageAsync(Paginator, Newest, new PageRequest(null, 5));
        int before = context.ChangeTracker.Entries<ShopOrder>().Count();
        Page<ShopOrder> tracked = await context.Orders.ToPageAsync(Paginator, Newest, new PageRequest(untracked.Next, 5));

        before.Should().Be(0);
        tracked.Items.Should().AllSatisfy(order => context.Entry(order).State.Should().Be(EntityState.Unchanged));
    }

    [Fact]
    public async Task Cursors_hold_what_the_database_has_and_not_what_is_not_saved_yet()
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(Provider.Sqlite, postgres);
        await using ShopContext context = database.Context();
        Page<ShopOrder> first = await context.Orders.ToPageAsync(Paginator, Newest, new PageRequest(null, 5));
        first.Items[^1].CreatedAt = ShopDatabase.Start.AddYears(-1);

        Page<ShopOrder> again = await context.Orders.ToPageAsync(Paginator, Newest, new PageRequest(null, 5));

        again.Next.Should().Be(first.Next);
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task A_total_is_counted_exactly_or_up_to_the_cap_or_not_at_all(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        CursorPaginator paginator = Paginators.New(o => o.TotalCap = 50);

        Page<ShopOrder> exact = await context.Orders.ToPageAsync(paginator, Newest, new PageRequest(null, 5, Total: TotalKind.Exact));
        Page<ShopOrder> capped = await context.Orders.ToPageAsync(paginator, Newest, new PageRequest(null, 5, Total: TotalKind.Capped));
        Page<ShopOrder> within = await context.Orders.Where(o => o.Id <= 50).ToPageAsync(paginator, Newest, new PageRequest(null, 5, Total: TotalKind.Capped));
        Page<ShopOrder> none = await context.Orders.ToPageAsync(paginator, Newest, new PageRequest(null, 5));

        exact.Total.Should().Be(new PageTotal(60, IsCapped: false));
        capped.Total.Should().Be(new PageTotal(50, IsCapped: true));
        within.Total.Should().Be(new PageTotal(50, IsCapped: false));
        none.Total.Should().BeNull();
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task Each_page_is_one_statement_whose_text_stays_and_nothing_is_compiled_for_a_new_cursor_or_size(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        Page<ShopOrder> page = await context.Orders.ToPageAsync(Paginator, Newest, new PageRequest(null, 5));
        page = await context.Orders.ToPageAsync(Paginator, Newest, new PageRequest(page.Next, 5));
        database.Witness.Clear();

        for (int size = 1; page.Next is not null; size++)
        {
            await using ShopContext another = database.Context();
            page = await another.Orders.ToPageAsync(Paginator, Newest, new PageRequest(page.Next, size));
        }

        database.Witness.Compilations.Should().Be(0);
        database.Witness.Statements.Should().HaveCountGreaterThan(5);
        database.Witness.Statements.Distinct().Should().ContainSingle();
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task A_page_whose_rows_are_gone_leads_back(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        await using ShopContext context = database.Context();
        Page<ShopOrder> first = await context.Orders.AsNoTracking().ToPageAsync(Paginator, Newest, new PageRequest(null, 5));
        int[] kept = [.. first.Items.Take(3).Select(o => o.Id)];
        await context.Orders.Where(o => !kept.Contains(o.Id)).ExecuteDeleteAsync();

        Page<ShopOrder> empty = await context.Orders.AsNoTracking().ToPageAsync(Paginator, Newest, new PageRequest(first.Next, 5));
        Page<ShopOrder> back = await context.Orders.AsNoTracking().ToPageAsync(Paginator, Newest, new PageRequest(empty.Previous, 5));
        await context.Orders.ExecuteDeleteAsync();
        Page<ShopOrder> nothing = await context.Orders.AsNoTracking().ToPageAsync(Paginator, Newest, new PageRequest(first.Next, 5));

        empty.Items.Should().BeEmpty();
        empty.Next.Should().BeNull();
        empty.Previous.Should().NotBeNull();
        back.Items.Select(o => o.Id).Should().Equal(kept);
        back.Next.Should().BeNull();
        back.Previous.Should().BeNull();
        nothing.Items.Should().BeEmpty();
        nothing.Previous.Should().BeNull();
    }

    [Fact]
    public async Task A_cancelled_page_ends()
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(Provider.Sqlite, postgres);
        await using ShopContext context = database.Context();

        Func<Task> act = () => context.Orders.ToPageAsync(Paginator, Newest, default, cancellationToken: new CancellationToken(canceled: true));

        await act.Should().ThrowAsync<OperationCanceledException>();
    }

    [Theory]
    [MemberData(nameof(Providers))]
    public async Task A_compiled_query_pages_with_its_argument_and_projection_and_compiles_each_shape_once(Provider provider)
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(provider, postgres);
        var pages = CompiledPageQuery.Create((ShopContext db, int least) => db.Orders.Where(o => o.Id >= least), Newest, o => new { o.Id, Products = o.Lines.Select(line => line.Product).ToList() });
        await using ShopContext context = database.Context();
        int[] expected = [.. await context.Orders.Where(o => o.Id >= 11).OrderByDescending(o => o.CreatedAt).ThenByDescending(o => o.Id).Select(o => o.Id).ToListAsync()];
        await Walk.CheckAsync(expected, Sizes, o => o.Id, request => pages.ToPageAsync(context, 11, Paginator, request));
        database.Witness.Clear();

        await using ShopContext another = database.Context();
        await Walk.CheckAsync(expected, Sizes, o => o.Id, request => pages.ToPageAsync(another, 11, Paginator, request));
        var page = await pages.ToPageAsync(another, 60, Paginator, new PageRequest(Total: TotalKind.Exact));

        database.Witness.Compilations.Should().Be(1, "of the total, which is not compiled");
        page.Items.Should().ContainSingle().Which.Products.Should().BeEmpty();
        page.Total.Should().Be(new PageTotal(1, IsCapped: false));
    }

    [Fact]
    public async Task A_compiled_query_pages_without_an_argument_and_a_page_whose_rows_are_gone_leads_back()
    {
        await using ShopDatabase database = await ShopDatabase.OpenAsync(Provider.Sqlite, postgres);
        CompiledPageQuery<ShopContext, ShopOrder, ShopOrder> pages = CompiledPageQuery.Create((ShopContext db) => db.Orders, Newest);
        await using ShopContext context = database.Context();
        Page<ShopOrder> first = await pages.ToPageAsync(context, Paginator, new PageRequest(null, 5));
        int[] kept = [.. first.Items.Select(o => o.Id)];
        await context.Orders.Where(o => !kept.Contains(o.Id)).ExecuteDeleteAsync();

        Page<ShopOrder> empty = await pages.ToPageAsync(context, Paginator, new PageRequest(first.Next, 5));
        Page<ShopOrder> back = await pages.ToPageAsync(context, Paginator, new PageRequest(empty.Previous, 5));

        empty.Items.Should().BeEmpty();
        empty.Previous.Should().NotBeNull();
        back.Items.Select(o => o.Id).Should().Equal(kept);
    }
}
