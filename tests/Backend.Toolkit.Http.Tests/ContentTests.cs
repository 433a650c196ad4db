using System.Net;
using System.Net.Http.Json;
using System.Text;

namespace Backend.Toolkit.Http.Tests;

/// <summary>What becomes of the content of a request that is sent again.</summary>
public sealed class ContentTests
{
    private const string NotTwice = "It was not retried: its content cannot be sent twice.";

    public static TheoryData<string> Replayable { get; } =
        ["bytes", "text", "form", "multipart", "memory", "stream", "empty", "json", "list", "short unseekable"];

    [Theory]
    [MemberData(nameof(Replayable))]
    public async Task Content_is_replayed_byte_for_byte(string kind)
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(503, 502, 200);
        using HttpContent content = Make(kind);

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("PUT", content));

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        byte[] first = outbound.Server.Arrivals[0].Body!;
        first.Should().HaveCount((int)Make(kind).Headers.ContentLength.GetValueOrDefault((await Make(kind).ReadAsByteArrayAsync()).Length));
        outbound.Server.Arrivals.Should().HaveCount(3);
        outbound.Server.Arrivals.Should().AllSatisfy(arrival => arrival.Body.Should().Equal(first));
    }

    [Fact]
    public async Task A_seekable_stream_is_sent_from_where_it_stood()
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(503, 200);
        var stream = new MemoryStream("0123456789"u8.ToArray()) { Position = 4 };

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("PUT", new StreamContent(stream)));

        outbound.Server.Arrivals.Select(arrival => Encoding.UTF8.GetString(arrival.Body!)).Should().Equal("456789", "456789");
    }

    [Fact]
    public async Task A_stream_that_cannot_seek_and_tells_no_length_is_sent_once_and_the_log_says_so()
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(503);

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("PUT", new StreamContent(new OnceStream("abc"u8.ToArray()))));

        outbound.Server.Arrivals.Should().ContainSingle().Which.Body.Should().Equal("abc"u8.ToArray());
        outbound.Logs.Texts.Should().ContainSingle().Which.Should().Contain(NotTwice);
    }

    [Fact]
    public async Task A_multipart_with_one_part_that_cannot_be_sent_twice_is_sent_once()
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(503);
        using var parts = new MultipartFormDataContent { { new StringContent("a"), "a" }, { new StreamContent(new OnceStream([1])), "b" } };

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("PUT", parts));

        outbound.Server.Count.Should().Be(1);
    }

    [Theory]
    [InlineData(100, 100, 2)]
    [InlineData(101, 100, 1)]
    [InlineData(1, 0, 1)]
    [InlineData(65_536, 65_536, 2)]
    [InlineData(65_537, 65_536, 1)]
    public async Task Content_of_known_length_is_buffered_up_to_the_limit(int length, int limit, int sent)
    {
        byte[] bytes = new byte[length];
        Random.Shared.NextBytes(bytes);
        using var outbound = new Outbound(o => o.RequestBufferLimit = limit);
        outbound.Server.Answers(503, 200);

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("PUT", OfKnownLength(bytes)));

        outbound.Server.Arrivals.Should().HaveCount(sent).And.AllSatisfy(arrival => arrival.Body.Should().Equal(bytes));
        outbound.Logs.Texts.Count(text => text.Contains(NotTwice)).Should().Be(sent == 1 ? 1 : 0);
    }

    [Fact]
    public async Task Content_that_is_sent_once_does_not_fail_because_it_is_large()
    {
        using var outbound = new Outbound();
        byte[] bytes = new byte[200_000];

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("PUT", OfKnownLength(bytes)));

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        outbound.Server.Arrivals.Should().ContainSingle().Which.Body.Should().HaveCount(200_000);
        outbound.Logs.Entries.Should().BeEmpty();
    }

    [Fact]
    public async Task Json_beyond_the_limit_is_written_once_more_and_sent_once()
    {
        using var outbound = new Outbound(o => o.RequestBufferLimit = 10);
        outbound.Server.Answers(503);
        int[] value = [.. Enumerable.Range(0, 1_000)];

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("PUT", JsonContent.Create(value)));

        outbound.Server.Arrivals.Should().ContainSingle().Which.Body.Should().Equal(System.Text.Json.JsonSerializer.SerializeToUtf8Bytes(value));
    }

    [Fact]
    public async Task Json_that_is_read_as_it_comes_is_sent_once()
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(503);
        int read = 0;
        async IAsyncEnumerable<int> Numbers()
        {
            read++;
            await Task.CompletedTask;
            yield return 1;
        }

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("PUT", JsonContent.Create(Numbers())));

        (read, outbound.Server.Count).Should().Be((1, 1));
    }

    [Fact]
    public async Task A_request_that_is_not_retried_is_not_buffered()
    {
        using var outbound = new Outbound();
        var content = new PacedContent(() => { });

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("POST", content));

        content.WasBuffered.Should().BeFalse();
        outbound.Server.Count.Should().Be(1);
    }

    [Fact]
    public async Task Content_that_cannot_be_written_fails_the_call_with_its_own_exception_counted_and_logged()
    {
        using var outbound = new Outbound();
        using var metrics = new Metrics("shop-content");
        using var policy = new OutboundPolicy(Outbound.Options(o => o.Name = "shop-content"), outbound.Time, outbound.Logs);
        using var invoker = new HttpMessageInvoker(new OutboundPolicyHandler(policy) { InnerHandler = outbound.Server });
        var thrown = new InvalidOperationException("cannot be written");

        Func<Task> call = () => invoker.SendAsync(Outbound.Request("PUT", new PacedContent(() => throw thrown)), default);

        (await call.Should().ThrowAsync<Exception>()).Which.Should().BeSameAs(thrown);
        outbound.Server.Count.Should().Be(0);
        outbound.Logs.Texts.Should().ContainSingle().Which.Should().Contain("failed").And.Contain("cannot be written");
        metrics.Outcomes.Should().Equal("failed");
    }

    [Fact]
    public async Task Content_that_was_disposed_fails_through_the_task()
    {
        using var outbound = new Outbound();
        var content = new StreamContent(new MemoryStream());
        content.Dispose();

        Task<HttpResponseMessage> call = outbound.SendAsync(Outbound.Request("PUT", content));

        await FluentActions.Awaiting(() => call).Should().ThrowAsync<ObjectDisposedException>();
    }

    [Fact]
    public async Task Content_that_fails_while_it_is_sent_is_no_reason_to_hang()
    {
        using var outbound = new Outbound(o => o.RequestBufferLimit = 0);

        Func<Task> call = () => outbound.SendAsync(Outbound.Request("PUT", new PacedContent(() => throw new InvalidOperationException()))).Soon();

        await call.Should().ThrowAsync<InvalidOperationException>();
    }

    [Fact]
    public async Task The_time_that_buffering_takes_is_the_calls()
    {
        using var outbound = new Outbound(o => o.Attempt = null);
        var content = new PacedContent(() => outbound.Time.Advance(TimeSpan.FromSeconds(12)));

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request("PUT", content)).Soon();

        outbound.Server.Arrivals.Should().ContainSingle().Which.Header("Timeout-Budget").Should().Be("17990", "12 s of the 30 are over");
    }

    [Fact]
    public async Task A_call_whose_time_ends_while_it_buffers_fails_with_the_policys_name_and_sends_nothing()
    {
        using var outbound = new Outbound();

        Task<HttpResponseMessage> call = outbound.SendAsync(Outbound.Request("PUT", new StuckContent()));
        outbound.Time.Advance(TimeSpan.FromSeconds(30));

        (await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<TimeoutBudgets.TimeoutBudgetExceededException>()).Which.Name.Should().Be("shop");
        outbound.Server.Count.Should().Be(0);
        outbound.Logs.Texts.Should().ContainSingle().Which.Should().Contain("timed-out");
    }

    [Fact]
    public async Task A_caller_that_cancels_while_content_is_buffered_gets_its_own_token_back()
    {
        using var outbound = new Outbound();
        using var caller = new CancellationTokenSource();

        Task<HttpResponseMessage> call = outbound.SendAsync(Outbound.Request("PUT", new StuckContent()), caller.Token);
        caller.Cancel();

        (await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(caller.Token);
        outbound.Logs.Entries.Should().BeEmpty();
    }

    private static HttpContent Make(string kind) => kind switch
    {
        "bytes" => new ByteArrayContent([0, 1, 2, 255], 1, 3),
        "text" => new StringContent("grüße"),
        "form" => new FormUrlEncodedContent([new("a", "1"), new("b", "ä&=")]),
        "multipart" => new MultipartFormDataContent { { new StringContent("x"), "name" }, { new StreamContent(new MemoryStream([1, 2, 3])), "file", "f.bin" } },
        "memory" => new ReadOnlyMemoryContent(new byte[] { 9, 8 }),
        "stream" => new StreamContent(new MemoryStream([5, 6, 7])),
        "json" => JsonContent.Create(new { Name = "x", Sum = 1.5 }),
        "list" => JsonContent.Create(new[] { 1, 2, 3 }),
        "short unseekable" => OfKnownLength([4, 5]),
        _ => new ByteArrayContent([]),
    };

    private static StreamContent OfKnownLength(byte[] bytes)
    {
        var content = new StreamContent(new OnceStream(bytes));
        content.Headers.ContentLength = bytes.Length;
        return content;
    }

    /// <summary>Can be read once, as a network stream.</summary>
    private sealed class OnceStream(byte[] bytes) : MemoryStream(bytes)
    {
        public override bool CanSeek => false;
    }

    /// <summary>Ten bytes, with something that happens while they are written.</summary>
    private sealed class PacedContent(Action meanwhile) : HttpContent
    {
        private int _written;

        public bool WasBuffered => _written > 1;

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            _written++;
            meanwhile();
            await stream.WriteAsync(new byte[10]);
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 10;
            return true;
        }
    }

    /// <summary>Never gets written, until it is cancelled.</summary>
    private sealed class StuckContent : HttpContent
    {
        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, default);

        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken) => Server.Hang(cancellationToken);

        protected override bool TryComputeLength(out long length)
        {
            length = 10;
            return true;
        }
    }
}
