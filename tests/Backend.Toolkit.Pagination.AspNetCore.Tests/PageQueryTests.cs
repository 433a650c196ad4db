using System.Globalization;
using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Pagination.AspNetCore.Tests;

/// <summary>What is asked for, in minimal APIs compiled ahead of time (<c>/orders</c>), made at run time (<c>/late-orders</c>), and in controllers.</summary>
public sealed class PageQueryTests(PageQueryTests.Shared shared) : IClassFixture<PageQueryTests.Shared>
{
    private static readonly string[] Endpoints = ["/orders", "/late-orders", "/part-of-more", "/group/orders", "/api-orders", "/plain-orders"];

    public static TheoryData<string> Paths { get; } = new(Endpoints);

    public static TheoryData<string, string, int> GoodSizes { get; } = Each(
        ("", 3), ("size=", 3), ("size=0", 3), ("size=-0", 3), ("size=1", 1), ("size=00000000000000000002", 2), ("SIZE=2", 2), ("%73ize=2", 2), ("size=5", 5), ("size=6", 5), ("size=2147483647", 5), ("size=2147483648", 5),
        ("size=1099511627776", 5), ("size=18446744073709551617", 5), ($"size={new string('9', 1_000)}", 5));

    public static TheoryData<string, string, string> BadSizes { get; } = Each(
        ("size=-1", "negative"), ("size=-2147483648", "negative"), ("size=-1099511627776", "negative"), ("size=abc", "malformed"), ("size=-", "malformed"), ("size=--1", "malformed"), ("size=+5", "malformed"),
        ("size=%2B5", "malformed"), ("size=5%20", "malformed"), ("size=%205", "malformed"), ("size=1.5", "malformed"), ("size=1,000", "malformed"), ("size=1e3", "malformed"), ("size=0x10", "malformed"),
        ("size=%D9%A2%D9%A0", "malformed"), ("size=%E0%B9%92", "malformed"), ("size=%EF%BC%95", "malformed"), ("size=%E2%88%921", "malformed"), ("size=%0D%0Ax:1", "malformed"), ("size=1&size=1", "repeated"),
        ("size=1&SIZE=2", "repeated"), ("size=&size=", "repeated"), ("size=1&%73ize=1", "repeated"));

    public static TheoryData<string, string, string> BadCursors { get; } = Each(
        ("cursor=x", "malformed"), ("cursor=%00", "malformed"), ("cursor=%0D%0ASet-Cookie:a=b", "malformed"), ("cursor=%ED%A0%80", "malformed"), ("cursor=%D9%A2", "malformed"), ("cursor=../../etc", "malformed"),
        ("cursor=%3Cscript%3E", "malformed"), ($"cursor={new string('A', 5_000)}", "tooLong"), ($"cursor={new string('z', 60)}", "unknownKey"), ("cursor=a&cursor=b", "repeated"), ("cursor=a&CURSOR=a", "repeated"),
        ("cursor=a&%63ursor=", "repeated"));

    [Fact]
    public void Handlers_written_in_place_are_compiled_ahead_of_time()
    {
        IEnumerable<string?> namespaces = typeof(PageQueryTests).Assembly.GetTypes().Select(type => type.Namespace);

        namespaces.Should().Contain("Microsoft.AspNetCore.Http.Generated", "half of these tests are about them");
    }

    [Theory]
    [MemberData(nameof(Paths))]
    public async Task Pages_are_read_forwards_and_backwards(string path)
    {
        Server server = shared.Server;

        Answer first = await server.GetAsync(path);
        Answer second = await server.GetAsync($"{path}?cursor={first.Next}&size=4");
        Answer third = await server.GetAsync($"{path}?size=5&cursor={second.Next}");
        Answer back = await server.GetAsync($"{path}?cursor={third.Previous}&size=4");

        first.Ids.Should().Equal(1, 2, 3);
        first.Previous.Should().BeNull();
        second.Ids.Should().Equal(4, 5, 6, 7);
        third.Ids.Should().Equal(8, 9, 10);
        third.Next.Should().BeNull();
        back.Ids.Should().Equal(4, 5, 6, 7);
        back.Body.Should().Be(second.Body);
    }

    [Theory]
    [MemberData(nameof(GoodSizes))]
    public async Task A_size_is_digits_of_which_many_are_as_good_as_the_largest(string path, string query, int items)
    {
        Server server = shared.Server;

        Answer answer = await server.GetAsync($"{path}?{query}");

        answer.Status.Should().Be(HttpStatusCode.OK, "{0}", answer.Body);
        answer.Ids.Should().HaveCount(items);
    }

    [Theory]
    [MemberData(nameof(BadSizes))]
    public async Task Any_other_size_is_refused(string path, string query, string reason)
    {
        Server server = shared.Server;

        Answer answer = await server.GetAsync($"{path}?{query}");

        answer.ShouldBeAProblem("invalid-page-size", reason);
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [MemberData(nameof(BadCursors))]
    public async Task What_is_no_cursor_is_refused(string path, string query, string reason)
    {
        Server server = shared.Server;

        Answer answer = await server.GetAsync($"{path}?{query}");

        answer.ShouldBeAProblem("invalid-cursor", reason);
        answer.Link.Should().BeNull();
        answer.Headers.Should().NotContain("Set-Cookie");
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [MemberData(nameof(Paths))]
    public async Task A_cursor_of_another_endpoint_or_tenant_is_foreign_and_a_changed_one_altered(string path)
    {
        Server server = shared.Server;
        string next = (await server.GetAsync(path)).Next!;
        string otherSort = (await server.GetAsync("/by-status")).Next!;
        string otherFilter = (await server.GetAsync("/by-status?status=paid&size=1")).Next!;
        int middle = next.Length - 8;

        (await server.GetAsync($"{path}?cursor={otherSort}")).ShouldBeAProblem("invalid-cursor", "foreign");
        (await server.GetAsync($"/by-status?cursor={next}")).ShouldBeAProblem("invalid-cursor", "foreign");
        (await server.GetAsync($"/by-status?cursor={otherFilter}")).ShouldBeAProblem("invalid-cursor", "foreign");
        (await server.GetAsync($"/by-status?status=new&cursor={otherFilter}")).ShouldBeAProblem("invalid-cursor", "foreign");
        (await server.GetAsync($"{path}?cursor={next}", request => request.Headers.Add("X-Tenant", "7"))).ShouldBeAProblem("invalid-cursor", "foreign");
        (await server.GetAsync($"{path}?cursor={next[..middle]}{(next[middle] == 'A' ? 'B' : 'A')}{next[(middle + 1)..]}")).ShouldBeAProblem("invalid-cursor", "altered");
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task A_cursor_expires()
    {
        var time = new FakeTimeProvider();
        await using Server server = await StartAsync(services => services.AddSingleton<TimeProvider>(time).AddCursorPagination(o => o.Expiry = TimeSpan.FromHours(1)));
        string next = (await server.GetAsync("/orders")).Next!;

        time.Advance(TimeSpan.FromMinutes(59));
        Answer inTime = await server.GetAsync($"/orders?cursor={next}");
        time.Advance(TimeSpan.FromMinutes(2));
        Answer late = await server.GetAsync($"/orders?cursor={next}");

        inTime.Ids.Should().Equal(4, 5, 6);
        late.ShouldBeAProblem("invalid-cursor", "expired");
    }

    [Theory]
    [MemberData(nameof(Paths))]
    public async Task A_cursor_of_a_megabyte_is_refused_by_the_server_or_as_too_long(string path)
    {
        string query = $"{path}?cursor={new string('A', 1_000_000)}";
        Server strict = shared.Server;
        await using Server lax = await StartAsync(kestrel: 2_000_000);

        Answer refused = await strict.GetAsync(query);
        Answer tooLong = await lax.GetAsync(query);

        refused.Status.Should().Be(HttpStatusCode.RequestUriTooLong);
        tooLong.ShouldBeAProblem("invalid-cursor", "tooLong");
        tooLong.Body.Length.Should().BeLessThan(500);
    }

    [Theory]
    [MemberData(nameof(Paths))]
    public async Task A_size_above_the_maximum_is_refused_where_such_are_not_coerced(string path)
    {
        await using Server server = await StartAsync(services => services.AddCursorPagination(o => o.RefuseOversized = true));

        Answer answer = await server.GetAsync($"{path}?size=1099511627776");

        answer.ShouldBeAProblem("invalid-page-size", "tooLarge");
        answer.Json.GetProperty("maxSize").GetInt32().Should().Be(5);
        answer.Json.GetProperty("detail").GetString().Should().Contain("between 0 (the default size) and 5");
    }

    [Theory]
    [InlineData("th-TH")]
    [InlineData("ar-SA")]
    [InlineData("tr-TR")]
    [InlineData("fa-IR")]
    public async Task No_culture_changes_an_answer(string culture)
    {
        string[] queries = ["", "?size=2", "?size=-1", "?size=x", "?SIZE=2", "?cursor=i"];
        Server server = shared.Server;

        foreach (string path in Endpoints)
        {
            foreach (string query in queries)
            {
                Answer plain = await server.GetAsync(path + query);
                Answer abroad = await server.GetAsync(path + query, request => request.Headers.Add("X-Culture", culture));
                abroad.Should().BeEquivalentTo(plain, options => options.Excluding(answer => answer.Json).Excluding(answer => answer.Ids).Excluding(answer => answer.Next).Excluding(answer => answer.Previous));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Paths))]
    public async Task The_names_of_the_parameters_are_options(string path)
    {
        await using Server server = await StartAsync(services => services.AddHttpPagination((o, provider) => (o.CursorParameter, o.SizeParameter) = ("page[after]", "page[size]")));

        Answer first = await server.GetAsync($"{path}?page%5Bsize%5D=2&cursor=ignored&size=ignored");
        Answer second = await server.GetAsync($"{path}?page[size]=2&page[after]={first.Next}");
        Answer bad = await server.GetAsync($"{path}?page[after]=x");

        first.Ids.Should().Equal(1, 2);
        first.Link.Should().Be($"<?page%5Bafter%5D={first.Next}&page%5Bsize%5D=2&cursor=ignored&size=ignored>; rel=\"next\"");
        second.Ids.Should().Equal(3, 4);
        bad.ShouldBeAProblem("invalid-cursor", "malformed");
    }

    [Fact]
    public async Task A_handler_does_not_run_for_a_bad_query()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app =>
        {
            app.MapGet("/compiled", (PageQuery query) => Interlocked.Increment(ref runs));
            MapAtRunTime(app, "/late", (PageQuery query) => Interlocked.Increment(ref runs));
        });

        (await server.GetAsync("/compiled?size=x")).ShouldBeAProblem("invalid-page-size", "malformed");
        (await server.GetAsync("/late?size=x")).ShouldBeAProblem("invalid-page-size", "malformed");
        runs.Should().Be(0);
        (await server.GetAsync("/compiled?size=1")).Status.Should().Be(HttpStatusCode.OK);
        runs.Should().Be(1);
    }

    [Fact]
    public async Task What_a_handler_throws_otherwise_stays_an_error()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/broken", (PageQuery query) => query.Request.Size == 0 ? throw new InvalidOperationException("broken") : "not broken"));

        Answer answer = await server.GetAsync("/broken");

        answer.Status.Should().Be(HttpStatusCode.InternalServerError);
        server.Errors.Should().ContainSingle().Which.Should().Contain("broken");
    }

    [Fact]
    public async Task A_query_that_no_filter_refused_is_a_bad_request_all_the_same()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/by-hand", async (HttpContext context) =>
        {
            PageQuery? query = await PageQuery.BindAsync(context, null!);
            await context.Response.WriteAsync($"size {query!.Request.Size}");
        }));

        Answer good = await server.GetAsync("/by-hand?size=7");
        Answer bad = await server.GetAsync("/by-hand?size=x");

        good.Body.Should().Be("size 7");
        bad.Status.Should().Be(HttpStatusCode.BadRequest);
    }

    [Fact]
    public void A_test_of_a_handler_makes_its_own_query()
    {
        var query = new PageQuery(new PageRequest("cursor", 7));

        query.Request.Should().Be(new PageRequest("cursor", 7));
    }

    [Theory]
    [InlineData("/api-orders")]
    [InlineData("/plain-orders")]
    public async Task A_controller_where_nothing_would_answer_a_bad_cursor_fails_and_says_what_is_missing(string path)
    {
        await using Server server = await Server.StartAsync(app => app.MapControllers(), Controllers.AddAlone);

        Answer answer = await server.GetAsync(path);

        answer.Status.Should().Be(HttpStatusCode.InternalServerError);
        server.Errors.Should().ContainSingle().Which.Should().Contain("services.AddHttpPagination()");
    }

    [Fact]
    public async Task A_reload_counts_from_the_next_request_and_an_invalid_one_changes_nothing_but_the_log()
    {
        var source = new ReloadableSource();
        IConfigurationRoot configuration = new ConfigurationBuilder().Add(source).Build();
        await using Server server = await StartAsync(services =>
        {
            services.AddHttpPagination();
            services.AddOptions<HttpPaginationOptions>().Bind(configuration);
        });

        Answer before = await server.GetAsync("/orders?limit=1");
        source.Provider.Reload("SizeParameter", "limit");
        Answer after = await server.GetAsync("/orders?limit=1");
        source.Provider.Reload("SizeParameter", "cursor");
        Answer afterInvalid = await server.GetAsync("/orders?limit=1");

        before.Ids.Should().HaveCount(3);
        after.Ids.Should().HaveCount(1);
        afterInvalid.Ids.Should().HaveCount(1);
        server.Errors.Should().ContainSingle().Which.Should().Contain("pages: SizeParameter must be another name than CursorParameter, but is 'cursor' too.");
    }

    internal static Task<Server> StartAsync(Action<IServiceCollection>? add = null, int? kestrel = null) => Server.StartAsync(
        app =>
        {
            app.Use((context, next) =>
            {
                if (context.Request.Headers["X-Culture"].ToString() is { Length: > 0 } culture)
                {
                    CultureInfo.CurrentCulture = CultureInfo.CurrentUICulture = CultureInfo.GetCultureInfo(culture);
                }

                return next();
            });
            app.MapGet("/orders", (PageQuery query, CursorPaginator paginator, HttpContext context) => Order.Page(query, paginator, context.Request.Headers["X-Tenant"]).ToResult());
            MapAtRunTime(app, "/late-orders", (PageQuery query, CursorPaginator paginator, HttpContext context) => Order.Page(query, paginator, context.Request.Headers["X-Tenant"]).ToResult());
            app.MapGet("/part-of-more", ([AsParameters] OrderSearch search, CursorPaginator paginator, HttpContext context) => Order.Page(search.Query, paginator, context.Request.Headers["X-Tenant"]).ToResult());
            app.MapGroup("/group").AddEndpointFilter(async (context, next) => await next(context)).MapGet("/orders", async (PageQuery query, CursorPaginator paginator, HttpContext context) =>
            {
                await Task.Yield();
                return Order.Page(query, paginator, context.Request.Headers["X-Tenant"]).ToResult();
            });
            app.MapGet("/by-status", (PageQuery query, CursorPaginator paginator, string? status) =>
                Order.All.Where(order => status is null || order.Status == status).ToPage(paginator, Order.ByStatus, query.Request, $"status {status}").ToResult());
            app.MapControllers();
        },
        services =>
        {
            Controllers.Add(services);
            add?.Invoke(services);
        },
        options =>
        {
            if (kestrel is int length)
            {
                options.Limits.MaxRequestLineSize = length;
                options.Limits.MaxRequestBufferSize = length;
            }
        });

    /// <summary>The generator sees only calls, none through a delegate.</summary>
    private static void MapAtRunTime(WebApplication app, string pattern, Delegate handler)
    {
        Func<string, Delegate, RouteHandlerBuilder> map = app.MapGet;
        map(pattern, handler);
    }

    private static TheoryData<string, string, TLast> Each<TLast>(params (string Query, TLast Last)[] rows)
    {
        var data = new TheoryData<string, string, TLast>();
        foreach ((string query, TLast last) in rows)
        {
            data.Add("/orders", query, last);
            data.Add("/late-orders", query, last);
            data.Add("/part-of-more", query, last);
            data.Add("/api-orders", query, last);
            data.Add("/plain-orders", query, last);
        }

        return data;
    }

    /// <summary>One service for all tests that change nothing in it.</summary>
    public sealed class Shared : IAsyncLifetime
    {
        internal Server Server { get; private set; } = null!;

        public async ValueTask InitializeAsync() => Server = await StartAsync();

        public ValueTask DisposeAsync() => Server.DisposeAsync();
    }

    private sealed class ReloadableSource : IConfigurationSource
    {
        public ReloadableProvider Provider { get; } = new();

        public IConfigurationProvider Build(IConfigurationBuilder builder) => Provider;
    }

    private sealed class ReloadableProvider : ConfigurationProvider
    {
        public void Reload(string key, string value)
        {
            Set(key, value);
            OnReload();
        }
    }
}
