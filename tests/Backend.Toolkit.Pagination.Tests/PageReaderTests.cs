using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using CsCheck;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Pagination.Tests;

public sealed partial class PageReaderTests
{
    private static readonly Uri First = new("https://shop.example/orders?status=paid&size=2");

    [Fact]
    public async Task All_items_of_all_pages_are_read_and_the_query_is_kept()
    {
        var server = new Server(uri => Envelope(uri, pages: 3, cursor => cursor));

        int[] items = await ReadAsync(server);

        items.Should().Equal(0, 1, 10, 11, 20, 21);
        server.Asked.Should().Equal(
            "https://shop.example/orders?status=paid&size=2",
            "https://shop.example/orders?status=paid&size=2&cursor=c1",
            "https://shop.example/orders?status=paid&size=2&cursor=c2");
    }

    [Theory]
    [InlineData("?cursor={0}")]
    [InlineData("/orders?cursor={0}")]
    [InlineData("https://shop.example/orders?cursor={0}")]
    [InlineData("HTTPS://SHOP.EXAMPLE:443/orders?cursor={0}")]
    public async Task A_link_in_the_page_is_followed_within_the_origin(string link)
    {
        var server = new Server(uri => Envelope(uri, pages: 3, cursor => string.Format(CultureInfo.InvariantCulture, link, cursor)));

        int[] items = await ReadAsync(server);

        items.Should().Equal(0, 1, 10, 11, 20, 21);
    }

    [Theory]
    [InlineData("<?cursor={0}>; rel=\"next\"")]
    [InlineData("<?cursor=wrong>; rel=prev, <?cursor={0}>;rel=next")]
    [InlineData("<?cursor=wrong>; rel=\"prev\"; title=\"a, b; rel=next\" , <?cursor={0}> ; title=\"\\\"\" ; REL=\"last NEXT\"")]
    public async Task A_link_header_goes_before_the_page(string header)
    {
        var server = new Server(uri =>
        {
            HttpResponseMessage response = Json("[" + string.Join(',', Items(Cursor(uri))) + "]");
            if (Cursor(uri) < 2)
            {
                response.Headers.TryAddWithoutValidation("Link", string.Format(CultureInfo.InvariantCulture, header, $"c{Cursor(uri) + 1}"));
            }

            return response;
        });

        int[] items = await ReadAsync(server);

        items.Should().Equal(0, 1, 10, 11, 20, 21);
    }

    [Theory]
    [InlineData("https://evil.example/orders?cursor=c1")]
    [InlineData("//evil.example/orders")]
    [InlineData("http://shop.example/orders?cursor=c1")]
    [InlineData("https://shop.example:8443/orders?cursor=c1")]
    [InlineData("https://shop.example@evil.example/orders")]
    [InlineData("file:///etc/passwd")]
    public async Task A_link_that_leaves_the_origin_is_never_asked(string hostile)
    {
        var server = new Server(_ => Json($$"""{"items":[1],"next":{{JsonSerializer.Serialize(hostile, Names.Default.String)}}}"""));

        Func<Task> read = () => ReadAsync(server);

        (await read.Should().ThrowAsync<PageReadException>()).Which.Should().Match<PageReadException>(it => it.Reason == PageReadReason.OtherOrigin && it.Resume == hostile);
        server.Asked.Should().HaveCount(1);
    }

    [Fact]
    public async Task An_answer_from_another_origin_is_refused()
    {
        var server = new Server(_ => Json("""{"items":[1],"next":null}"""), redirectedTo: new Uri("https://evil.example/orders"));

        Func<Task> read = () => ReadAsync(server);

        (await read.Should().ThrowAsync<PageReadException>()).Which.Reason.Should().Be(PageReadReason.OtherOrigin);
    }

    [Fact]
    public async Task A_loop_ends_with_an_exception_and_what_was_read_before()
    {
        var server = new Server(uri => Json($$"""{"items":[{{Cursor(uri)}}],"next":"{{(Cursor(uri) == 2 ? "c1" : $"c{Cursor(uri) + 1}")}}"}"""));
        var items = new List<int>();

        Func<Task> read = async () =>
        {
            await foreach (int item in Reader(server).ReadAsync(First))
            {
                items.Add(item);
            }
        };

        (await read.Should().ThrowAsync<PageReadException>()).Which.Reason.Should().Be(PageReadReason.Loop);
        items.Should().Equal(0, 1, 2);
    }

    [Fact]
    public async Task A_bound_on_pages_says_where_to_go_on()
    {
        var server = new Server(uri => Envelope(uri, pages: 5, cursor => cursor));
        PageReader<int> reader = Reader(server, new PageReaderOptions { MaxPages = 2 });
        var items = new List<int>();
        string? resume = null;
        for (int part = 0; part < 3; part++)
        {
            try
            {
                await foreach (int item in reader.ReadAsync(First, resume))
                {
                    items.Add(item);
                }
            }
            catch (PageReadException exception) when (exception.Reason == PageReadReason.TooManyPages)
            {
                resume = exception.Resume;
            }
        }

        items.Should().Equal(0, 1, 10, 11, 20, 21, 30, 31, 40, 41);
    }

    [Fact]
    public async Task Pages_tell_what_to_save_and_reading_resumes_there()
    {
        var server = new Server(uri => Envelope(uri, pages: 3, cursor => cursor));
        string? saved = null;
        await foreach (PageRead<int> page in Reader(server).ReadPagesAsync(First))
        {
            saved = page.Next;
            break;
        }

        int[] items = await ReadAsync(server, saved);

        saved.Should().Be("c1");
        items.Should().Equal(10, 11, 20, 21);
    }

    [Fact]
    public async Task The_next_page_is_not_asked_for_before_it_is_wanted()
    {
        var server = new Server(uri => Envelope(uri, pages: 3, cursor => cursor));

        await foreach (int item in Reader(server).ReadAsync(First))
        {
            if (item == 1)
            {
                break;
            }
        }

        server.Asked.Should().HaveCount(1);
    }

    [Fact]
    public async Task Cancellation_ends_the_reading()
    {
        using var cancellation = new CancellationTokenSource();
        var server = new Server(uri => Envelope(uri, pages: 100, cursor => cursor));
        int items = 0;

        Func<Task> read = async () =>
        {
            await foreach (int item in Reader(server).ReadAsync(First, cancellationToken: cancellation.Token))
            {
                items++;
                if (items == 3)
                {
                    await cancellation.CancelAsync();
                }
            }
        };

        await read.Should().ThrowAsync<OperationCanceledException>();
        items.Should().Be(3);
    }

    [Theory]
    [InlineData("")]
    [InlineData("{}")]
    [InlineData("7")]
    [InlineData("{\"items\":{}}")]
    [InlineData("{\"items\":[\"x\"]}")]
    [InlineData("{\"items\":[],\"next\":7}")]
    [InlineData("{\"items\":[],\"next\":\"http://[\"}")]
    [InlineData("{\"items\":[],\"next\":\"https://evil.example\\\\@shop.example/orders\"}")]
    [InlineData("{\"items\":[1")]
    public async Task A_page_of_another_shape_is_a_typed_exception(string body)
    {
        var server = new Server(_ => Json(body));

        Func<Task> read = () => ReadAsync(server);

        (await read.Should().ThrowAsync<PageReadException>()).Which.Reason.Should().Be(PageReadReason.Malformed);
    }

    [Fact]
    public async Task A_page_without_success_is_the_clients_own_exception()
    {
        var server = new Server(_ => new HttpResponseMessage(HttpStatusCode.BadRequest));

        Func<Task> read = () => ReadAsync(server);

        (await read.Should().ThrowAsync<HttpRequestException>()).Which.StatusCode.Should().Be(HttpStatusCode.BadRequest);
    }

    [Fact]
    public async Task Names_can_be_others()
    {
        var server = new Server(uri => Json($$"""{"data":[{{(uri.Query.Contains("after=x", StringComparison.Ordinal) ? 2 : 1)}}],"after":{{(uri.Query.Contains("after=x", StringComparison.Ordinal) ? "null" : "\"x\"")}}}"""));

        var items = new List<int>();
        await foreach (int item in Reader(server, new PageReaderOptions { ItemsProperty = "data", NextProperty = "after", CursorParameter = "after" }).ReadAsync(new Uri("orders?after=old", UriKind.Relative)))
        {
            items.Add(item);
        }

        items.Should().Equal(1, 2);
        server.Asked.Should().Equal("https://shop.example/orders?after=old", "https://shop.example/orders?after=x");
    }

    [Fact]
    public async Task A_page_is_given_before_what_is_wrong_with_the_link_to_the_next_one_is_told()
    {
        var server = new Server(_ => Json("""{"items":[1,2],"next":"https://evil.example/orders"}"""));
        var items = new List<int>();

        Func<Task> read = async () =>
        {
            await foreach (int item in Reader(server).ReadAsync(First))
            {
                items.Add(item);
            }
        };

        (await read.Should().ThrowAsync<PageReadException>()).Which.Resume.Should().Be("https://evil.example/orders");
        items.Should().Equal(1, 2);
    }

    [Theory]
    [InlineData("\"next\":null,\"items\":[null]")]
    [InlineData("\"items\":[\"\\ud800\"]")]
    [InlineData("\"items\":[],\"next\":\"\\ud800\"")]
    [InlineData("\"items\":[],\"\\udc00\":1")]
    public async Task A_page_with_a_null_or_half_a_character_is_malformed(string inside)
    {
        var server = new Server(_ => Json("{" + inside + "}"));
        var reader = new PageReader<string>(new HttpClient(server), Names.Default.String);

        Func<Task> read = async () => await reader.ReadAsync(First).FirstOrDefaultAsync();

        (await read.Should().ThrowAsync<PageReadException>()).Which.Reason.Should().Be(PageReadReason.Malformed);
    }

    [Fact]
    public async Task A_null_is_an_item_where_items_may_be_null()
    {
        var server = new Server(_ => Json("""{"items":[null,1],"next":null}"""));
        var reader = new PageReader<int?>(new HttpClient(server), Names.Default.NullableInt32);

        int?[] items = await reader.ReadAsync(First).ToArrayAsync();

        items.Should().Equal(null, 1);
    }

    [Fact]
    public async Task The_target_of_a_link_header_is_a_link_whatever_it_looks_like()
    {
        var server = new Server(uri =>
        {
            HttpResponseMessage response = Json("[1]");
            if (uri.AbsolutePath == "/orders/1")
            {
                response.Headers.TryAddWithoutValidation("Link", "<2>; rel=next");
            }

            return response;
        });

        await Reader(server).ReadAsync(new Uri("https://shop.example/orders/1?size=2")).ToArrayAsync();

        server.Asked.Should().Equal("https://shop.example/orders/1?size=2", "https://shop.example/orders/2");
    }

    [Fact]
    public async Task A_saved_link_leads_to_the_same_page_when_it_was_relative_to_another_one()
    {
        var server = new Server(uri => Json(uri.AbsolutePath switch
        {
            "/orders" => """{"items":[1],"next":"orders/2/"}""",
            "/orders/2/" => """{"items":[2],"next":"../3/"}""",
            _ => """{"items":[3],"next":null}""",
        }));
        PageReader<int> reader = Reader(server, new PageReaderOptions { MaxPages = 2 });
        var first = new Uri("https://shop.example/orders");

        Func<Task> read = async () => await reader.ReadAsync(first).ToArrayAsync();
        string? resume = (await read.Should().ThrowAsync<PageReadException>()).Which.Resume;
        int[] rest = await reader.ReadAsync(first, resume).ToArrayAsync();

        rest.Should().Equal(3);
        server.Asked.Should().EndWith("https://shop.example/orders/3/");
    }

    [Fact]
    public async Task Addresses_that_differ_by_fragment_only_are_a_loop()
    {
        int asked = 0;
        var server = new Server(_ => Json($$"""{"items":[1],"next":"/orders?status=paid&size=2#{{asked++}}"}"""));

        Func<Task> read = () => ReadAsync(server);

        (await read.Should().ThrowAsync<PageReadException>()).Which.Reason.Should().Be(PageReadReason.Loop);
        server.Asked.Should().HaveCount(1);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_page_larger_than_allowed_is_refused_before_it_is_in_memory(bool isLengthTold)
    {
        var body = new Endless();
        var server = new Server(_ =>
        {
            var content = new StreamContent(body);
            content.Headers.ContentLength = isLengthTold ? 1L << 40 : null;
            return new HttpResponseMessage { Content = content };
        });

        Func<Task> read = () => ReadAsync(server);

        (await read.Should().ThrowAsync<PageReadException>()).Which.Reason.Should().Be(PageReadReason.TooLarge);
        body.Given.Should().BeLessThan(isLengthTold ? 1 : 18 << 20);
    }

    [Fact]
    public async Task A_page_as_large_as_allowed_is_read()
    {
        const string body = """{"items":[1],"next":null}""";
        var server = new Server(_ => Json(body));

        int[] items = await Reader(server, new PageReaderOptions { MaxPageBytes = body.Length }).ReadAsync(First).ToArrayAsync();
        Func<Task> read = async () => await Reader(server, new PageReaderOptions { MaxPageBytes = body.Length - 1 }).ReadAsync(First).ToArrayAsync();

        items.Should().Equal(1);
        (await read.Should().ThrowAsync<PageReadException>()).Which.Reason.Should().Be(PageReadReason.TooLarge);
    }

    [Fact]
    public async Task A_next_link_without_measure_is_not_followed()
    {
        var server = new Server(uri => Json($$"""{"items":[1],"next":"{{new string('c', uri.Query.Contains("cursor", StringComparison.Ordinal) ? 65_537 : 65_536)}}"}"""));

        Func<Task> read = () => ReadAsync(server);

        (await read.Should().ThrowAsync<PageReadException>()).Which.Reason.Should().Be(PageReadReason.Malformed);
        server.Asked.Should().HaveCount(2);
    }

    [Fact]
    public async Task What_is_remembered_of_a_page_does_not_grow_with_its_address()
    {
        int asked = 0;
        var server = new Server(_ => Json($$"""{"items":[],"next":"{{new string('c', 60_000)}}{{asked++}}"}""")) { Remembers = false };
        long early = 0;
        await using IAsyncEnumerator<PageRead<int>> pages = Reader(server).ReadPagesAsync(First).GetAsyncEnumerator(TestContext.Current.CancellationToken);
        for (int page = 0; page < 1000; page++)
        {
            await pages.MoveNextAsync();
            early = page == 10 ? GC.GetTotalMemory(forceFullCollection: true) : early;
        }

        long late = GC.GetTotalMemory(forceFullCollection: true);

        (late - early).Should().BeLessThan(60_000_000, "the addresses alone have 120 MB");
    }

    [Fact]
    public async Task A_body_that_stalls_ends_with_the_clients_timeout()
    {
        var server = new Server(_ => new HttpResponseMessage { Content = new StreamContent(new Stalled()) });
        using var client = new HttpClient(server) { Timeout = TimeSpan.FromMilliseconds(100) };
        var reader = new PageReader<int>(client, Names.Default.Int32);

        Func<Task> read = () => reader.ReadAsync(First).FirstAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(20));

        (await read.Should().ThrowAsync<TaskCanceledException>()).Which.InnerException.Should().BeOfType<TimeoutException>();
    }

    [Fact]
    public async Task A_body_that_breaks_off_is_a_failed_request()
    {
        var server = new Server(_ => new HttpResponseMessage { Content = new StreamContent(new Broken()) });

        Func<Task> read = () => ReadAsync(server);

        await read.Should().ThrowAsync<HttpRequestException>();
    }

    [Fact]
    public void Whatever_is_in_a_link_header_it_is_read_to_its_end()
    {
        Gen<string> hostile = Gen.OneOf(
            Gen.String,
            Gen.Char["<>;,=\" \\relnxt"].Array[0, 60].Select(units => new string(units)));

        hostile.Sample(header => WebLink.Find(header, "next"), iter: 100_000, threads: 1);
        string flood = new('<', 1_000_000);

        WebLink.Find(flood + string.Concat(Enumerable.Repeat("<>;\"", 100_000)), "next").Should().BeNull();
    }

    [Fact]
    public void Options_out_of_range_are_told_in_sentences()
    {
        var options = new PageReaderOptions { Name = "export", ItemsProperty = "", NextProperty = "", CursorParameter = "", MaxPages = 0, MaxPageBytes = 0 };

        Action make = () => Reader(new Server(_ => Json("")), options);

        make.Should().Throw<OptionsValidationException>().WithMessage(
            "export: ItemsProperty must be the name of a property, but is empty.; export: NextProperty must be the name of a property, but is empty.; "
            + "export: CursorParameter must be the name of a parameter, but is empty.; export: MaxPages must be between 1 and 10000000, but is 0.; export: MaxPageBytes must be between 1 and 1073741824, but is 0.");
    }

    private static async Task<int[]> ReadAsync(Server server, string? resume = null)
    {
        var items = new List<int>();
        await foreach (int item in Reader(server).ReadAsync(First, resume))
        {
            items.Add(item);
        }

        return [.. items];
    }

    private static PageReader<int> Reader(Server server, PageReaderOptions? options = null) =>
        new(new HttpClient(server) { BaseAddress = new Uri("https://shop.example/") }, Names.Default.Int32, options);

    private static HttpResponseMessage Envelope(Uri uri, int pages, Func<string, string> next)
    {
        int cursor = Cursor(uri);
        string link = cursor + 1 < pages ? $"\"{next($"c{cursor + 1}")}\"" : "null";
        return Json($$"""{"items":[{{string.Join(',', Items(cursor))}}],"next":{{link}},"previous":null}""");
    }

    private static int[] Items(int cursor) => [10 * cursor, (10 * cursor) + 1];

    private static int Cursor(Uri uri)
    {
        int at = uri.Query.IndexOf("cursor=c", StringComparison.Ordinal);
        return at < 0 ? 0 : int.Parse(uri.Query[(at + 8)..], CultureInfo.InvariantCulture);
    }

    private static HttpResponseMessage Json(string body) => new() { Content = new StringContent(body, Encoding.UTF8, "application/json") };

    private sealed class Server(Func<Uri, HttpResponseMessage> answer, Uri? redirectedTo = null) : HttpMessageHandler
    {
        public List<string> Asked { get; } = [];

        public bool Remembers { get; init; } = true;

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (Remembers)
            {
                Asked.Add(request.RequestUri!.AbsoluteUri);
            }

            HttpResponseMessage response = answer(request.RequestUri!);
            response.RequestMessage = redirectedTo is null ? request : new HttpRequestMessage(HttpMethod.Get, redirectedTo);
            return Task.FromResult(response);
        }
    }

    private abstract class Body : Stream
    {
        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override void Flush() => throw new NotSupportedException();

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }

    private sealed class Stalled : Body
    {
        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            var never = new TaskCompletionSource<int>();
            await using CancellationTokenRegistration registration = cancellationToken.Register(() => never.SetCanceled(cancellationToken));
            return await never.Task;
        }
    }

    private sealed class Endless : Body
    {
        public long Given { get; private set; }

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            buffer.Span.Fill((byte)' ');
            Given += buffer.Length;
            return ValueTask.FromResult(buffer.Length);
        }
    }

    private sealed class Broken : Body
    {
        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => throw new HttpIOException(HttpRequestError.ResponseEnded);
    }

    [JsonSerializable(typeof(int?))]
    [JsonSerializable(typeof(int))]
    [JsonSerializable(typeof(string))]
    private sealed partial class Names : JsonSerializerContext;
}
