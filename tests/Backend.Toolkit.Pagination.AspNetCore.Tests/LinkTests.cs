using System.Net.Sockets;
using System.Text;
using CsCheck;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.WebUtilities;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Primitives;

namespace Backend.Toolkit.Pagination.AspNetCore.Tests;

/// <summary>Links as RFC 8288 writes them. The page between others has the cursors <c>n</c> and <c>p</c>.</summary>
public sealed class LinkTests
{
    private static readonly string[] Pieces = ["cursor", "CURSOR", "%63ursor", "cursor=", "&", "=", "%", "%2", "%zz", "%C3%A4", "%FF", "size=20", ">; rel=\"next\"", "\ud83d", "\ude00", "ä"];

    [Theory]
    [InlineData("", "<?cursor=n>; rel=\"next\", <?cursor=p>; rel=\"prev\"")]
    [InlineData("?cursor=old&size=20", "<?cursor=n&size=20>; rel=\"next\", <?cursor=p&size=20>; rel=\"prev\"")]
    [InlineData("?size=20&CURSOR=old&status=paid&status=new", "<?cursor=n&size=20&status=paid&status=new>; rel=\"next\", <?cursor=p&size=20&status=paid&status=new>; rel=\"prev\"")]
    [InlineData("?%63ur%73or=old&q=a+b%20c%2B%C3%A4", "<?cursor=n&q=a+b%20c%2B%C3%A4>; rel=\"next\", <?cursor=p&q=a+b%20c%2B%C3%A4>; rel=\"prev\"")]
    [InlineData("?flag&empty=&&=x&cursor", "<?cursor=n&flag&empty=&=x>; rel=\"next\", <?cursor=p&flag&empty=&=x>; rel=\"prev\"")]
    [InlineData("?a=,;'!()*:@/?$", "<?cursor=n&a=%2C%3B'!()*:@/?$>; rel=\"next\", <?cursor=p&a=%2C%3B'!()*:@/?$>; rel=\"prev\"")]
    [InlineData("?a=>;rel=\"next\",<http://evil.example/>", "<?cursor=n&a=%3E%3Brel=%22next%22%2C%3Chttp://evil.example/%3E>; rel=\"next\", <?cursor=p&a=%3E%3Brel=%22next%22%2C%3Chttp://evil.example/%3E>; rel=\"prev\"")]
    [InlineData("?a=%0D%0ASet-Cookie:x=y&b=\r\nSet-Cookie:x", "<?cursor=n&a=%0D%0ASet-Cookie:x=y&b=%0D%0ASet-Cookie:x>; rel=\"next\", <?cursor=p&a=%0D%0ASet-Cookie:x=y&b=%0D%0ASet-Cookie:x>; rel=\"prev\"")]
    [InlineData("?a=100%&b=%zz&c=%4", "<?cursor=n&a=100%25&b=%25zz&c=%254>; rel=\"next\", <?cursor=p&a=100%25&b=%25zz&c=%254>; rel=\"prev\"")]
    [InlineData("?a=ä€😀", "<?cursor=n&a=%C3%A4%E2%82%AC%F0%9F%98%80>; rel=\"next\", <?cursor=p&a=%C3%A4%E2%82%AC%F0%9F%98%80>; rel=\"prev\"")]
    public void A_link_is_the_query_with_another_cursor(string query, string links)
    {
        Links(query).Should().Be(links);
    }

    [Fact]
    public void An_end_has_no_link_and_a_page_alone_no_header()
    {
        Links("?size=1", next: null).Should().Be("<?cursor=p&size=1>; rel=\"prev\"");
        Links("?size=1", previous: null).Should().Be("<?cursor=n&size=1>; rel=\"next\"");
        Links("?size=1", next: null, previous: null).Should().BeEmpty();
    }

    [Fact]
    public void Half_a_surrogate_pair_becomes_the_character_for_what_is_lost()
    {
        Links("?a=\ud800b\udc00", previous: null).Should().Be("<?cursor=n&a=%EF%BF%BDb%EF%BF%BD>; rel=\"next\"");
    }

    [Fact]
    public void A_cursor_cannot_end_its_link_either()
    {
        Links("", next: "a b>&c=\r\n", previous: null).Should().Be("<?cursor=a%20b%3E%26c%3D%0D%0A>; rel=\"next\"");
    }

    [Fact]
    public void Links_of_the_application_stay()
    {
        var context = new DefaultHttpContext();
        context.Response.Headers.Link = "</style.css>; rel=preload";

        PageLinks.Add(context, "n", null);

        context.Response.Headers.Link.ToString().Should().Be("</style.css>; rel=preload,<?cursor=n>; rel=\"next\"");
    }

    [Fact]
    public void Whatever_the_query_there_are_two_links_of_plain_characters_that_mean_the_same_parameters()
    {
        Gen<string> piece = Gen.OneOf(
            Gen.String, Gen.String[Gen.Char["&=%+?#<>\",;\\ \r\n\0'ab01F"], 0, 12], Gen.Int[0, Pieces.Length - 1].Select(index => Pieces[index]));

        piece.Array[0, 8].Select(pieces => "?" + string.Concat(pieces)).Sample(
            query =>
            {
                string header = Links(query);

                header.Should().MatchRegex("""^<\?cursor=n[!-~-[<>"\\,;]]*>; rel="next", <\?cursor=p[!-~-[<>"\\,;]]*>; rel="prev"$""");
                string target = header[1..header.IndexOf('>', StringComparison.Ordinal)];
                Dictionary<string, StringValues> wanted = QueryHelpers.ParseQuery(WithWholeCharacters(query)), found = QueryHelpers.ParseQuery(target);
                wanted.Remove("cursor");
                found.Remove("cursor", out StringValues cursor).Should().BeTrue();
                cursor.Should().Equal("n");
                found.Keys.Should().BeEquivalentTo(wanted.Keys);
                found.Where(parameter => parameter.Value != wanted[parameter.Key]).Should().BeEmpty();
            },
            iter: 20_000);
    }

    [Fact]
    public void The_work_is_linear_in_the_length_of_the_query()
    {
        string many = "?" + string.Concat(Enumerable.Repeat("%63&a=>&", 125_000));
        long before = GC.GetAllocatedBytesForCurrentThread();

        string header = Links(many);

        header.Should().EndWith("&a=%3E>; rel=\"prev\"");
        (GC.GetAllocatedBytesForCurrentThread() - before).Should().BeLessThan(100_000_000);
    }

    [Fact]
    public async Task What_comes_raw_over_the_wire_does_not_get_out_of_its_link()
    {
        await using Server server = await PageQueryTests.StartAsync();

        string answer = await RawAsync(server, "/orders?size=1&q=\"><script>;rel=\"prev\",<http://evil.example/?cursor=x>;rel=\"next\"");

        answer.Should().StartWith("HTTP/1.1 200 ");
        string[] links = [.. answer.Split("\r\n").Where(line => line.StartsWith("Link:", StringComparison.OrdinalIgnoreCase))];
        links.Should().ContainSingle().Which.Should().MatchRegex("""^Link: <\?cursor=[\w-]+&size=1&q=%22%3E%3Cscript%3E%3Brel=%22prev%22%2C%3Chttp://evil\.example/\?cursor=x%3E%3Brel=%22next%22>; rel="next"$""");
    }

    [Fact]
    public async Task A_very_long_query_is_kept_whole()
    {
        await using Server server = await PageQueryTests.StartAsync();
        string ids = string.Join('&', Enumerable.Range(0, 700).Select(id => $"id={id}"));

        Answer answer = await server.GetAsync($"/orders?{ids}");

        answer.Link.Should().Be($"<?cursor={answer.Next}&{ids}>; rel=\"next\"");
    }

    [Theory]
    [InlineData("https://shop.example", "/orders", "https://shop.example/orders")]
    [InlineData("https://shop.example:8443/api/", "/orders", "https://shop.example:8443/api/orders")]
    [InlineData("https://bücher.example/größe", "/orders", "https://xn--bcher-kva.example/gr%C3%B6%C3%9Fe/orders")]
    [InlineData("http://[2001:db8::1]:81/", "/orders", "http://[2001:db8::1]:81/orders")]
    [InlineData("https://shop.example", "/r/a%20b", "https://shop.example/r/a%20b")]
    [InlineData("https://shop.example", "/r/%C3%A4", "https://shop.example/r/%C3%A4")]
    [InlineData("https://shop.example", "/r/a%2Fb", "https://shop.example/r/a%2Fb")]
    [InlineData("https://shop.example", "/r/a%3Fb%23c", "https://shop.example/r/a%3Fb%23c")]
    [InlineData("https://shop.example", "/r/%3E%22,%3B%0D%0A", "https://shop.example/r/%3E%22%2C%3B%0D%0A")]
    [InlineData("https://shop.example", "/r/100%25", "https://shop.example/r/100%25")]
    [InlineData("https://shop.example", "/r/%2541", "https://shop.example/r/%2541")]
    public async Task Links_are_absolute_from_the_configured_address_never_from_the_host(string address, string path, string target)
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UsePathBase("/inner");
                app.UseRouting();
                app.MapGet("/orders", () => Middle.ToResult());
                app.MapGet("/r/{segment}", (string segment) => Middle.ToResult());
            },
            services => services.AddHttpPagination(o => o.BaseAddress = new Uri(address)));

        Answer answer = await server.GetAsync($"/inner{path}?size=2", request => request.Headers.Host = "evil.example");

        answer.Link.Should().Be($"<{target}?cursor=n&size=2>; rel=\"next\", <{target}?cursor=p&size=2>; rel=\"prev\"");
    }

    private static Page<Order> Middle { get; } = new([], "n", "p");

    private static string Links(string query, string? next = "n", string? previous = "p")
    {
        var context = new DefaultHttpContext();
        context.Request.QueryString = new QueryString(query);
        PageLinks.Add(context, next, previous);
        return context.Response.Headers.Link.ToString();
    }

    /// <summary>Half a surrogate pair means nothing in a URI.</summary>
    private static string WithWholeCharacters(string text) => Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text));

    private static async Task<string> RawAsync(Server server, string target)
    {
        using var bound = new CancellationTokenSource(TimeSpan.FromSeconds(30), TimeProvider.System);
        using var client = new TcpClient();
        await client.ConnectAsync(server.Address.Host, server.Address.Port, bound.Token);
        await using NetworkStream stream = client.GetStream();
        await stream.WriteAsync(Encoding.ASCII.GetBytes($"GET {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"), bound.Token);
        using var reader = new StreamReader(stream, Encoding.ASCII);
        return await reader.ReadToEndAsync(bound.Token);
    }
}
