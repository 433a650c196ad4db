using System.Net;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Pagination.AspNetCore.Tests;

/// <summary>The client's end of the leaf, against what this package serves and against servers that mean harm.</summary>
public sealed class PageReaderTests
{
    private static JsonTypeInfo<Order> Type => OrderJson.Default.Order;

    [Theory]
    [InlineData("/orders?size=2")]
    [InlineData("/orders?size=5&q=a%20b%26c,;%3E")]
    [InlineData("/bare?size=2")]
    [InlineData("/bare?size=3&cursor=")]
    [InlineData("/api-orders")]
    [InlineData("/plain-orders?size=4")]
    public async Task All_items_are_read_by_links_and_by_cursors(string first)
    {
        await using Server server = await StartAsync();

        List<Order> items = await ReadAsync(new PageReader<Order>(server.Client, Type).ReadAsync(new Uri(first, UriKind.Relative)));

        items.Should().Equal(Order.All);
    }

    [Theory]
    [InlineData("/orders?size=2")]
    [InlineData("/bare?size=2")]
    public async Task Reading_is_resumed_where_it_was_left(string first)
    {
        await using Server server = await StartAsync();
        var reader = new PageReader<Order>(server.Client, Type, new PageReaderOptions { MaxPages = 2 });
        var address = new Uri(first, UriKind.Relative);

        Func<Task> tooMany = () => ReadAsync(reader.ReadAsync(address));
        PageReadException exception = (await tooMany.Should().ThrowAsync<PageReadException>()).Which;
        List<Order> rest = await ReadAsync(new PageReader<Order>(server.Client, Type).ReadAsync(address, exception.Resume));

        exception.Reason.Should().Be(PageReadReason.TooManyPages);
        rest.Should().Equal(Order.All.Skip(4));
    }

    [Fact]
    public async Task Absolute_links_are_followed_where_they_are_of_the_same_origin_only()
    {
        IConfigurationRoot configuration = new ConfigurationBuilder().AddInMemoryCollection([new("BaseAddress", "https://shop.example")]).Build();
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/orders", (PageQuery query, CursorPaginator paginator) => Order.Page(query, paginator).ToResult()),
            services => services.AddHttpPagination().AddOptions<HttpPaginationOptions>().Bind(configuration));
        var reader = new PageReader<Order>(server.Client, Type);
        var address = new Uri("/orders", UriKind.Relative);

        Func<Task> read = () => ReadAsync(reader.ReadAsync(address));
        (await read.Should().ThrowAsync<PageReadException>()).Which.Reason.Should().Be(PageReadReason.OtherOrigin);
        configuration["BaseAddress"] = server.Address.AbsoluteUri;
        configuration.Reload();
        Answer first = await server.GetAsync("/orders");
        List<Order> items = await ReadAsync(reader.ReadAsync(address));

        first.Link.Should().Be($"<{server.Address}orders?cursor={first.Next}>; rel=\"next\"");
        items.Should().Equal(Order.All);
    }

    [Theory]
    [InlineData("http://127.0.0.1:1/orders?cursor=x")]
    [InlineData("https://127.0.0.1:{port}/orders?cursor=x")]
    [InlineData("http://localhost:{port}/orders?cursor=x")]
    [InlineData("http://127.0.0.1:{port}@evil.example/")]
    [InlineData("//evil.example/orders")]
    [InlineData("\\\\evil.example\\orders")]
    [InlineData("http:\\\\evil.example/")]
    [InlineData("file:///etc/passwd")]
    [InlineData("javascript:alert(1)")]
    public async Task A_link_to_another_origin_is_not_followed(string link)
    {
        int requests = 0;
        await using Server server = await HostileAsync((context, address) =>
        {
            Interlocked.Increment(ref requests);
            context.Response.Headers.Link = $"<{link.Replace("{port}", $"{address.Port}", StringComparison.Ordinal)}>; rel=\"next\"";
        });

        Func<Task> read = () => ReadAsync(new PageReader<Order>(server.Client, Type).ReadAsync(new Uri("/hostile", UriKind.Relative)));

        (await read.Should().ThrowAsync<PageReadException>()).Which.Reason.Should().BeOneOf(PageReadReason.OtherOrigin, PageReadReason.Malformed);
        requests.Should().Be(1);
    }

    [Fact]
    public async Task A_redirect_is_not_followed_by_a_client_that_is_told_so()
    {
        await using Server server = await HostileAsync((context, _) =>
        {
            context.Response.StatusCode = StatusCodes.Status302Found;
            context.Response.Headers.Location = "http://127.0.0.1:1/elsewhere";
        });

        Func<Task> read = () => ReadAsync(new PageReader<Order>(server.Client, Type).ReadAsync(new Uri("/hostile", UriKind.Relative)));

        (await read.Should().ThrowAsync<HttpRequestException>()).Which.StatusCode.Should().Be(HttpStatusCode.Found);
    }

    [Fact]
    public async Task A_page_from_another_origin_by_redirect_is_not_taken()
    {
        await using Server other = await StartAsync();
        await using Server server = await HostileAsync((context, _) => context.Response.Redirect(new Uri(other.Address, "/orders").AbsoluteUri));
        using var client = new HttpClient { BaseAddress = server.Address, Timeout = TimeSpan.FromSeconds(30) };

        Func<Task> read = () => ReadAsync(new PageReader<Order>(client, Type).ReadAsync(new Uri("/hostile", UriKind.Relative)));

        (await read.Should().ThrowAsync<PageReadException>()).Which.Reason.Should().Be(PageReadReason.OtherOrigin);
    }

    [Theory]
    [InlineData("</hostile>; rel=next")]
    [InlineData("</hostile#again>; rel=\"next\"")]
    [InlineData("<HTTP://127.0.0.1:{port}/hostile>; rel=\"next\"")]
    [InlineData("</a/../hostile>; rel=\"next\"")]
    public async Task A_loop_ends(string link)
    {
        int requests = 0;
        await using Server server = await HostileAsync((context, address) =>
        {
            Interlocked.Increment(ref requests);
            context.Response.Headers.Link = link.Replace("{port}", $"{address.Port}", StringComparison.Ordinal);
        });

        Func<Task> read = () => ReadAsync(new PageReader<Order>(server.Client, Type).ReadAsync(new Uri("/hostile", UriKind.Relative)));

        (await read.Should().ThrowAsync<PageReadException>()).Which.Reason.Should().Be(PageReadReason.Loop);
        requests.Should().BeLessThanOrEqualTo(2);
    }

    [Fact]
    public async Task A_chain_without_an_end_stops_at_the_bound()
    {
        int requests = 0;
        await using Server server = await HostileAsync((context, _) => context.Response.Headers.Link = $"<?page={Interlocked.Increment(ref requests)}>; rel=\"next\"");

        Func<Task> read = () => ReadAsync(new PageReader<Order>(server.Client, Type, new PageReaderOptions { MaxPages = 50 }).ReadAsync(new Uri("/hostile", UriKind.Relative)));

        (await read.Should().ThrowAsync<PageReadException>()).Which.Reason.Should().Be(PageReadReason.TooManyPages);
        requests.Should().Be(50);
    }

    [Theory]
    [InlineData("<")]
    [InlineData("<<<<>;rel=\"")]
    [InlineData(">; rel=next")]
    [InlineData("<http://evil.example>; rel=\"prev\"; title=\"rel=next\"")]
    [InlineData("<http://evil.example>; title=\"x, <y>; rel=next\"")]
    [InlineData("<http://evil.example>; rel=\"prev\"; rel=\"next\"")]
    [InlineData("</x>; xrel=next")]
    public async Task A_header_that_names_no_next_page_ends_the_reading(string link)
    {
        await using Server server = await HostileAsync((context, _) => context.Response.Headers.Link = link);

        List<Order> items = await ReadAsync(new PageReader<Order>(server.Client, Type).ReadAsync(new Uri("/hostile", UriKind.Relative)));

        items.Should().BeEmpty();
    }

    [Fact]
    public async Task Cancellation_ends_the_reading_of_a_page_that_never_ends()
    {
        using var source = new CancellationTokenSource();
        await using Server server = await Server.StartAsync(app => app.MapGet("/slow", async (HttpContext context) =>
        {
            await context.Response.WriteAsync("{\"items\":[");
            await context.Response.Body.FlushAsync();
            await source.CancelAsync();
            await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, context.RequestAborted);
        }));

        Func<Task> read = () => ReadAsync(new PageReader<Order>(server.Client, Type).ReadAsync(new Uri("/slow", UriKind.Relative), cancellationToken: source.Token));

        await read.Should().ThrowAsync<OperationCanceledException>();
    }

    [Fact]
    public async Task A_refused_cursor_is_an_error_with_its_status()
    {
        await using Server server = await StartAsync();

        Func<Task> read = () => ReadAsync(new PageReader<Order>(server.Client, Type).ReadAsync(new Uri("/bare", UriKind.Relative), resume: "AAAA"));

        (await read.Should().ThrowAsync<HttpRequestException>()).Which.StatusCode.Should().Be(HttpStatusCode.BadRequest);
    }

    private static Task<Server> StartAsync() => Server.StartAsync(
        app =>
        {
            app.MapGet("/orders", (PageQuery query, CursorPaginator paginator) => Order.Page(query, paginator).ToResult());
            app.MapGet("/bare", (PageQuery query, CursorPaginator paginator) => Order.Page(query, paginator));
            app.MapControllers();
        },
        Controllers.Add);

    private static Task<Server> HostileAsync(Action<HttpContext, Uri> answer) => Server.StartAsync(app => app.Map("/hostile", branch => branch.Run(async context =>
    {
        answer(context, new Uri($"http://127.0.0.1:{context.Connection.LocalPort}"));
        await context.Response.WriteAsync("{\"items\":[]}");
    })));

    private static async Task<List<Order>> ReadAsync(IAsyncEnumerable<Order> items)
    {
        var list = new List<Order>();
        await foreach (Order item in items)
        {
            list.Add(item);
        }

        return list;
    }
}
