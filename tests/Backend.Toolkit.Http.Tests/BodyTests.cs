using System.Net;
using Backend.Toolkit.TimeoutBudgets;

namespace Backend.Toolkit.Http.Tests;

/// <summary>Reading the body of a response counts against the budget.</summary>
public sealed class BodyTests
{
    private static readonly TimeSpan Total = TimeSpan.FromSeconds(30);
    private readonly Pipe _body = new();

    [Fact]
    public async Task A_read_that_waits_fails_when_the_time_is_over()
    {
        using var outbound = Streaming();
        using HttpResponseMessage response = await outbound.GetAsync();
        Stream stream = await response.Content.ReadAsStreamAsync();

        Task<int> read = stream.ReadAsync(new byte[10]).AsTask();
        outbound.Time.Advance(Total - TimeSpan.FromMilliseconds(1));
        bool early = read.IsCompleted;
        outbound.Time.Advance(TimeSpan.FromMilliseconds(1));

        TimeoutBudgetExceededException exceeded = (await FluentActions.Awaiting(() => read.Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>()).Which;
        (exceeded.Name, exceeded.Total, exceeded.Elapsed, early).Should().Be(("shop", Total, Total, false));
    }

    [Fact]
    public async Task The_next_read_fails_when_the_time_is_over_although_bytes_are_there()
    {
        using var outbound = Streaming();
        using HttpResponseMessage response = await outbound.GetAsync();
        Stream stream = await response.Content.ReadAsStreamAsync();
        _body.Push(1, 2);

        int first = await stream.ReadAsync(new byte[1]);
        outbound.Time.Advance(Total);
        Func<Task> second = async () => _ = await stream.ReadAsync(new byte[1]);
        Action synchronous = () => stream.ReadExactly(new byte[1]);

        first.Should().Be(1);
        await second.Should().ThrowAsync<TimeoutBudgetExceededException>();
        synchronous.Should().Throw<TimeoutBudgetExceededException>();
        await FluentActions.Awaiting(() => stream.CopyToAsync(Stream.Null)).Should().ThrowAsync<TimeoutBudgetExceededException>();
    }

    [Fact]
    public async Task The_attempt_timeout_does_not_cover_the_body()
    {
        using var outbound = Streaming();
        using HttpResponseMessage response = await outbound.GetAsync();
        Stream stream = await response.Content.ReadAsStreamAsync();

        Task<int> read = stream.ReadAsync(new byte[10]).AsTask();
        outbound.Time.Advance(TimeSpan.FromSeconds(20));
        _body.Push(7);

        (await read.Soon()).Should().Be(1);
    }

    [Theory]
    [InlineData("CopyTo")]
    [InlineData("ReadAsString")]
    [InlineData("LoadIntoBuffer")]
    [InlineData("Stream.CopyTo")]
    public async Task Reading_it_all_fails_when_the_time_is_over(string how)
    {
        using var outbound = Streaming();
        using HttpResponseMessage response = await outbound.GetAsync();
        _body.Push(1, 2, 3);

        Task reading = how switch
        {
            "CopyTo" => response.Content.CopyToAsync(Stream.Null),
            "ReadAsString" => response.Content.ReadAsStringAsync(),
            "LoadIntoBuffer" => response.Content.LoadIntoBufferAsync(),
            _ => (await response.Content.ReadAsStreamAsync()).CopyToAsync(Stream.Null),
        };
        outbound.Time.Advance(Total);

        (await FluentActions.Awaiting(() => reading.Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>()).Which.Name.Should().Be("shop");
    }

    [Fact]
    public async Task A_fast_body_that_never_ends_ends_with_the_budget()
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(_ => new Reply(200) { Content = new StreamContent(new EndlessStream(() => outbound.Time.Advance(TimeSpan.FromSeconds(0.1)))) });

        foreach (Func<HttpContent, Task> read in new Func<HttpContent, Task>[]
        {
            content => content.CopyToAsync(Stream.Null),
            async content => await (await content.ReadAsStreamAsync()).CopyToAsync(Stream.Null),
            content => Task.Run(() => content.CopyTo(Stream.Null, null, default)),
            content => Task.Run(() => content.ReadAsStream().CopyTo(Stream.Null)),
        })
        {
            using HttpResponseMessage response = await outbound.GetAsync();

            await FluentActions.Awaiting(() => read(response.Content).Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>();
        }
    }

    [Fact]
    public async Task A_reader_that_cancels_gets_its_own_token_back_and_may_read_on()
    {
        using var outbound = Streaming();
        using HttpResponseMessage response = await outbound.GetAsync();
        Stream stream = await response.Content.ReadAsStreamAsync();
        using var reader = new CancellationTokenSource();

        Task<int> read = stream.ReadAsync(new byte[10], reader.Token).AsTask();
        reader.Cancel();
        OperationCanceledException cancelled = (await FluentActions.Awaiting(() => read.Soon()).Should().ThrowAsync<OperationCanceledException>()).Which;
        Task<int> next = stream.ReadAsync(new byte[10]).AsTask();
        _body.Push(1, 2, 3);

        cancelled.CancellationToken.Should().Be(reader.Token);
        (await next.Soon()).Should().Be(3);
        await FluentActions.Awaiting(async () => _ = await stream.ReadAsync(new byte[1], reader.Token)).Should().ThrowAsync<OperationCanceledException>();
    }

    [Fact]
    public async Task A_copy_that_its_caller_cancels_has_the_callers_token()
    {
        using var outbound = Streaming();
        using HttpResponseMessage response = await outbound.GetAsync();
        using var reader = new CancellationTokenSource();

        Task copy = response.Content.CopyToAsync(Stream.Null, reader.Token);
        reader.Cancel();

        (await FluentActions.Awaiting(() => copy.Soon()).Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(reader.Token);
    }

    [Fact]
    public async Task Headers_and_length_are_those_of_the_body_inside()
    {
        using var outbound = new Outbound();
        outbound.Server.Answers(_ =>
        {
            var content = new ByteArrayContent([1, 2, 3]);
            content.Headers.TryAddWithoutValidation("Content-Type", "application/json; charset=utf-8");
            content.Headers.TryAddWithoutValidation("X-Odd", ["a", "b"]);
            content.Headers.TryAddWithoutValidation("Expires", "not a date");
            return new Reply(200) { Content = content };
        });

        using HttpResponseMessage response = await outbound.GetAsync();

        response.Content.Should().BeOfType<BudgetedContent>();
        response.Content.Headers.ContentLength.Should().Be(3);
        response.Content.Headers.ContentType!.MediaType.Should().Be("application/json");
        response.Content.Headers.NonValidated["X-Odd"].Should().Equal("a", "b");
        response.Content.Headers.NonValidated["Expires"].ToString().Should().Be("not a date");
        (await response.Content.ReadAsByteArrayAsync()).Should().Equal(1, 2, 3);
    }

    [Fact]
    public async Task A_body_of_unknown_length_stays_so()
    {
        using var outbound = Streaming();
        using HttpResponseMessage response = await outbound.GetAsync();
        _body.Push(4, 5);
        _body.End();

        response.Content.Headers.ContentLength.Should().BeNull();
        (await response.Content.ReadAsByteArrayAsync().Soon()).Should().Equal(4, 5);
    }

    [Fact]
    public async Task Bodies_are_left_alone_when_told_so()
    {
        using var outbound = Streaming(o => o.CoverResponseBody = false);

        using HttpResponseMessage response = await outbound.GetAsync();

        response.Content.Should().BeOfType<StreamContent>();
    }

    [Theory]
    [InlineData("GET", 101)]
    [InlineData("CONNECT", 200)]
    public async Task A_connection_that_became_something_else_is_left_alone(string method, int status)
    {
        using var outbound = Streaming(status: status);

        using HttpResponseMessage response = await outbound.SendAsync(Outbound.Request(method));

        response.Content.Should().BeOfType<StreamContent>();
    }

    [Fact]
    public async Task Without_any_deadline_bodies_are_left_alone()
    {
        using var outbound = Streaming(o => o.Budget = null);

        using HttpResponseMessage response = await outbound.GetAsync();

        response.Content.Should().BeOfType<StreamContent>();
    }

    [Fact]
    public async Task Disposing_the_response_disposes_the_body_inside()
    {
        using var outbound = Streaming();
        HttpResponseMessage response = await outbound.GetAsync();
        Stream stream = await response.Content.ReadAsStreamAsync();

        response.Dispose();

        _body.IsDisposed.Should().BeTrue();
        stream.CanRead.Should().BeFalse();
    }

    [Fact]
    public async Task An_ambient_budget_covers_the_body_also_after_its_scope()
    {
        using var outbound = Streaming(o => o.Budget!.Total = Timeout.InfiniteTimeSpan);
        HttpResponseMessage response;
        using (TimeoutBudget.Start(TimeSpan.FromSeconds(8), "page", outbound.Time))
        {
            outbound.Time.Advance(TimeSpan.FromSeconds(3));
            response = await outbound.GetAsync();
        }

        Task<string> reading = response.Content.ReadAsStringAsync();
        outbound.Time.Advance(TimeSpan.FromSeconds(5));

        TimeoutBudgetExceededException exceeded = (await FluentActions.Awaiting(() => reading.Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>()).Which;
        (exceeded.Name, exceeded.Total).Should().Be(("shop", TimeSpan.FromSeconds(5)));
        response.Dispose();
    }

    [Fact]
    public async Task Errors_of_the_body_come_out_as_they_are()
    {
        using var outbound = Streaming();
        using HttpResponseMessage response = await outbound.GetAsync();
        Stream stream = await response.Content.ReadAsStreamAsync();
        var cut = new IOException("cut");

        Task<int> read = stream.ReadAsync(new byte[10]).AsTask();
        _body.Fail(cut);

        (await FluentActions.Awaiting(() => read.Soon()).Should().ThrowAsync<IOException>()).Which.Should().BeSameAs(cut);
    }

    private Outbound Streaming(Action<OutboundPolicyOptions>? set = null, int status = 200)
    {
        var outbound = new Outbound(set);
        outbound.Server.Answers(_ => new Reply(status) { Content = new StreamContent(_body) });
        return outbound;
    }

    /// <summary>Has bytes whenever it is asked, and lets time pass. It gives up in the end, so that a test which hangs fails.</summary>
    private sealed class EndlessStream(Action tick) : MemoryStream
    {
        private int _reads;

        public override bool CanSeek => false;

        public override int Read(Span<byte> buffer)
        {
            if (++_reads > 20_000)
            {
                throw new InvalidOperationException("Nobody stopped reading.");
            }

            tick();
            return buffer.Length;
        }

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override void CopyTo(Stream destination, int bufferSize)
        {
            while (true)
            {
                destination.Write(new byte[Read(new byte[bufferSize])]);
            }
        }

        public override async Task CopyToAsync(Stream destination, int bufferSize, CancellationToken cancellationToken)
        {
            while (true)
            {
                cancellationToken.ThrowIfCancellationRequested();
                await destination.WriteAsync(new byte[Read(new byte[bufferSize])], cancellationToken);
                await Task.Yield();
            }
        }

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            cancellationToken.IsCancellationRequested ? ValueTask.FromCanceled<int>(cancellationToken) : ValueTask.FromResult(Read(buffer.Span));
    }
}
