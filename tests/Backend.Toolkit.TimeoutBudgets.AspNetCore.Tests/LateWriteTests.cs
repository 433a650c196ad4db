using System.Collections;
using System.Collections.Concurrent;
using System.Net;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore.Tests;

/// <summary>What a handler writes before, at and after the deadline.</summary>
public sealed class LateWriteTests
{
    private readonly TaskCompletionSource _inside = new(TaskCreationOptions.RunContinuationsAsynchronously);

    [Theory]
    [InlineData("nothing")]
    [InlineData("text")]
    [InlineData("json")]
    [InlineData("stream")]
    [InlineData("array")]
    [InlineData("synchronous")]
    [InlineData("begin")]
    [InlineData("flush")]
    [InlineData("start")]
    [InlineData("complete")]
    [InlineData("complete writer")]
    [InlineData("writer")]
    [InlineData("unflushed")]
    [InlineData("file")]
    public async Task What_a_late_handler_writes_is_discarded_whole(string how)
    {
        bool outlived = false;
        string file = Path.GetTempFileName();
        await File.WriteAllTextAsync(file, "late");
        await using Server server = await Server.StartBareAsync(app =>
        {
            app.Use((context, next) =>
            {
                context.Response.Headers["x-outer"] = "kept";
                return next(context);
            });
            app.UseTimeoutBudgets();
            app.MapGet("/", async (HttpContext context, CancellationToken token) =>
            {
                context.Response.Headers["x-early"] = "leak";
                _inside.SetResult();
                await Eventually.UntilLate(token);
                context.Response.StatusCode = 201;
                context.Response.Headers["x-late"] = "leak";
                context.Response.Headers["x-outer"] = "leak";
                context.Response.ContentLength = 4;
                context.Response.Cookies.Append("late", "leak");
                context.Response.OnStarting(() =>
                {
                    context.Response.Headers["x-starting"] = "leak";
                    context.Response.StatusCode = 202;
                    return Task.CompletedTask;
                });
                context.Features.Get<IHttpResponseFeature>()!.ReasonPhrase = "leak";
                await WriteAsync(context, how, file);
                outlived = true;
            });
        });

        HttpResponseMessage response = await ExpireAsync(server);

        await RequestTests.ShouldBeProblem(response, 504, "Gateway Timeout");
        response.ReasonPhrase.Should().Be("Gateway Timeout");
        response.Headers.GetValues("x-outer").Should().Equal("kept");
        response.Headers.Select(header => header.Key).Should().BeSubsetOf(["Date", "Server", "x-outer", "No-Retry"]);
        outlived.Should().BeTrue("what is discarded is no failure");
        server.Errors.Should().BeEmpty();
        File.Delete(file);
    }

    [Fact]
    public async Task What_was_written_in_time_and_not_flushed_is_taken_back()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/", async (HttpContext context, CancellationToken token) =>
        {
            Encoding.UTF8.GetBytes(new string('x', 10_000)).CopyTo(context.Response.BodyWriter.GetSpan(10_000));
            context.Response.BodyWriter.Advance(10_000);
            _inside.SetResult();
            await Eventually.UntilLate(token);
        }));

        HttpResponseMessage response = await ExpireAsync(server);

        await RequestTests.ShouldBeProblem(response, 504, "Gateway Timeout");
    }

    [Theory]
    [InlineData("stream", true)]
    [InlineData("writer", true)]
    [InlineData("start", true)]
    [InlineData("stream", false)]
    public async Task A_response_that_has_started_is_aborted_at_the_expiry_even_when_the_handler_does_nothing_any_more(string how, bool ignoresTheToken)
    {
        using var release = new SemaphoreSlim(0);
        await using Server server = await Server.StartAsync(app => app.MapGet("/", async (HttpContext context, CancellationToken token) =>
        {
            await WriteAsync(context, how, "");
            await context.Response.Body.FlushAsync(CancellationToken.None);
            _inside.SetResult();
            if (ignoresTheToken)
            {
                await release.WaitAsync(CancellationToken.None);
                await context.Response.WriteAsync("more", CancellationToken.None);
            }

            await Eventually.UntilCancelled(token);
        }));
        HttpResponseMessage response = await server.GetAsync("/", "100").Soon();
        await _inside.Task.Soon();

        server.Time.Advance(TimeSpan.FromMilliseconds(100));
        Func<Task> read = () => response.Content.ReadAsStringAsync().Soon();

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        await read.Should().ThrowAsync<HttpRequestException>("the connection is cut, not ended");
        release.Release();
        Eventually.BeTrue(() => server.Statuses.Count == 1, "the handler ends");
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task A_handler_that_blocks_its_thread_past_the_deadline_of_its_started_response_is_cut_when_it_goes_on()
    {
        Server? server = null;
        int more = 0;
        server = await Server.StartAsync(app => app.MapGet("/", (HttpContext context) =>
        {
            context.Response.StartAsync().Wait();
            server!.Time.Advance(TimeSpan.FromMilliseconds(100));
            Task write = context.Response.WriteAsync("more", CancellationToken.None);
            more = write.IsCompleted ? 1 : 2;
            return Task.CompletedTask;
        }));
        await using Server disposed = server;

        Func<Task> read = async () => await (await server.GetAsync("/", "100")).Content.ReadAsStringAsync().Soon();

        await read.Should().ThrowAsync<HttpRequestException>();
        Eventually.BeTrue(() => server.Statuses.Count == 1, "the handler ends, which the client does not wait for");
        more.Should().Be(1);
    }

    [Fact]
    public async Task A_handler_that_returns_late_without_having_waited_is_answered_504_too()
    {
        Server? server = null;
        server = await Server.StartAsync(app => app.MapGet("/", () =>
        {
            server!.Time.Advance(TimeSpan.FromMilliseconds(100));
            return "late";
        }));
        await using Server disposed = server;

        HttpResponseMessage response = await server.GetAsync("/", "100");

        await RequestTests.ShouldBeProblem(response, 504, "Gateway Timeout");
    }

    [Theory]
    [InlineData("complete")]
    [InlineData("complete writer")]
    public async Task A_response_that_was_completed_in_time_stays_whole_when_the_handler_goes_on_past_the_deadline(string how)
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/", async (HttpContext context, CancellationToken token) =>
        {
            await WriteAsync(context, how, "");
            _inside.SetResult();
            await Eventually.UntilLate(token);
        }));

        HttpResponseMessage response = await ExpireAsync(server);

        (await response.Content.ReadAsStringAsync()).Should().Be("late");
        Eventually.BeTrue(() => server.Statuses.Count == 1, "the handler ends");
        server.Statuses.Should().Equal(200);
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [InlineData("text", "late")]
    [InlineData("json", "\"late\"")]
    [InlineData("stream", "late")]
    [InlineData("array", "late")]
    [InlineData("synchronous", "late")]
    [InlineData("begin", "late")]
    [InlineData("flush", "")]
    [InlineData("start", "")]
    [InlineData("complete", "late")]
    [InlineData("complete writer", "late")]
    [InlineData("writer", "late")]
    [InlineData("unflushed", "late")]
    [InlineData("file", "late")]
    [InlineData("mixed", "abcde")]
    public async Task What_is_written_in_time_goes_out_unchanged(string how, string body)
    {
        string file = Path.GetTempFileName();
        await File.WriteAllTextAsync(file, "late");
        await using Server server = await Server.StartAsync(app => app.MapGet("/", (HttpContext context) =>
        {
            context.Response.StatusCode = 201;
            context.Response.Headers["x-own"] = "1";
            return WriteAsync(context, how, file);
        }));

        HttpResponseMessage response = await server.GetAsync("/", "100").Soon();

        (await response.Content.ReadAsStringAsync().Soon()).Should().Be(body);
        response.StatusCode.Should().Be(HttpStatusCode.Created);
        response.Headers.GetValues("x-own").Should().Equal("1");
        server.Errors.Should().BeEmpty();
        File.Delete(file);
    }

    [Fact]
    public async Task A_large_body_in_pieces_of_all_sizes_goes_out_unchanged()
    {
        byte[] expected = new byte[1_000_000];
        new Random(7).NextBytes(expected);
        await using Server server = await Server.StartAsync(app => app.MapGet("/", async (HttpContext context, CancellationToken token) =>
        {
            var sizes = new Random(8);
            for (int at = 0; at < expected.Length;)
            {
                int length = Math.Min(sizes.Next(20_000), expected.Length - at);
                expected.AsSpan(at, length).CopyTo(context.Response.BodyWriter.GetSpan(length));
                context.Response.BodyWriter.Advance(length);
                at += length;
                if (sizes.Next(3) == 0)
                {
                    await context.Response.BodyWriter.FlushAsync(token);
                }
            }
        }));

        byte[] body = await (await server.GetAsync("/", "100")).Content.ReadAsByteArrayAsync().Soon();

        body.Should().Equal(expected);
    }

    [Fact]
    public async Task A_handler_that_starts_its_response_while_the_time_runs_out_answers_whole_or_is_cut_or_is_a_504()
    {
        const int Requests = 300;
        using var barrier = new Barrier(2);
        await using Server server = await Server.StartAsync(app => app.MapGet("/", async (HttpContext context) =>
        {
            context.Response.Headers["x-own"] = "1";
            context.Response.ContentLength = 5;
            barrier.SignalAndWait(Eventually.Patience);
            Thread.SpinWait(500);
            await context.Response.WriteAsync("whole", CancellationToken.None);
        }));
        var pauses = new Random(9);
        int[] outcomes = new int[3];

        for (int i = 0; i < Requests; i++)
        {
            // A connection of its own: the next request may otherwise go out on one that is just being cut, and never arrive.
            var request = new HttpRequestMessage(HttpMethod.Get, "/") { Headers = { ConnectionClose = true } };
            Task<HttpResponseMessage> pending = server.SendAsync(request, "100");
            barrier.SignalAndWait(Eventually.Patience).Should().BeTrue();
            Thread.SpinWait(pauses.Next(1_000));
            server.Time.Advance(TimeSpan.FromMilliseconds(100));
            outcomes[await OutcomeAsync(pending)]++;
        }

        outcomes.Sum().Should().Be(Requests);
        server.Errors.Should().BeEmpty();

        static async Task<int> OutcomeAsync(Task<HttpResponseMessage> pending)
        {
            try
            {
                HttpResponseMessage response = await pending.Soon();
                if (response.StatusCode != HttpStatusCode.OK)
                {
                    await RequestTests.ShouldBeProblem(response, 504, "Gateway Timeout");
                    response.Headers.Contains("x-own").Should().BeFalse();
                    return 0;
                }

                (await response.Content.ReadAsStringAsync().Soon()).Should().Be("whole");
                response.Headers.Contains("x-own").Should().BeTrue();
                return 1;
            }
            catch (HttpRequestException)
            {
                return 2;
            }
        }
    }

    [Fact]
    public async Task The_expiry_looks_nothing_up_in_the_context_that_the_handler_uses_at_the_same_time()
    {
        var time = new FakeTimeProvider();
        var features = new WatchedFeatures();
        var lifetime = new Lifetime();
        features.Set<IHttpRequestFeature>(new HttpRequestFeature { Headers = { ["Timeout-Budget"] = "100" } });
        features.Set<IHttpResponseFeature>(new StartedResponse());
        features.Set<IHttpResponseBodyFeature>(new StreamResponseBodyFeature(Stream.Null));
        features.Set<IHttpRequestLifetimeFeature>(lifetime);
        await using ServiceProvider services = new ServiceCollection().AddSingleton<TimeProvider>(time).AddTimeoutBudgets().BuildServiceProvider();
        var goOn = new TaskCompletionSource();
        IApplicationBuilder app = new ApplicationBuilder(services).UseTimeoutBudgets();
        app.Run(_ => goOn.Task);
        Task run = app.Build()(new DefaultHttpContext(features));

        features.StartToWatch();
        time.Advance(TimeSpan.FromMilliseconds(100));
        await lifetime.Aborted.Task.Soon();

        features.Found.Should().BeEmpty();
        goOn.SetResult();
        await run.Soon();
    }

    private static async Task WriteAsync(HttpContext context, string how, string file)
    {
        HttpResponse response = context.Response;
        byte[] late = "late"u8.ToArray();
        switch (how)
        {
            case "text":
                await response.WriteAsync("late", CancellationToken.None);
                break;
            case "json":
                response.ContentLength = null;
                await response.WriteAsJsonAsync("late", CancellationToken.None);
                break;
            case "stream":
                await response.Body.WriteAsync(late, CancellationToken.None);
                break;
            case "array":
                await response.Body.WriteAsync(late, 0, late.Length, CancellationToken.None);
                break;
            case "synchronous":
                context.Features.Get<IHttpBodyControlFeature>()!.AllowSynchronousIO = true;
                response.Body.Write(late, 0, late.Length);
                response.Body.Flush();
                break;
            case "begin":
                await Task.Factory.FromAsync(response.Body.BeginWrite(late, 0, late.Length, null, null), response.Body.EndWrite);
                break;
            case "flush":
                response.ContentLength = null;
                await response.Body.FlushAsync(CancellationToken.None);
                break;
            case "start":
                response.ContentLength = null;
                await response.StartAsync(CancellationToken.None);
                break;
            case "complete":
                await response.BodyWriter.WriteAsync(late, CancellationToken.None);
                await response.CompleteAsync();
                break;
            case "complete writer":
                await response.BodyWriter.WriteAsync(late, CancellationToken.None);
                await response.BodyWriter.CompleteAsync();
                break;
            case "writer":
                await response.BodyWriter.WriteAsync(late, CancellationToken.None);
                break;
            case "unflushed":
                late.CopyTo(response.BodyWriter.GetMemory(4));
                response.BodyWriter.Advance(4);
                break;
            case "file":
                await response.SendFileAsync(file, CancellationToken.None);
                break;
            case "mixed":
                Put("a");
                await response.Body.WriteAsync("b"u8.ToArray());
                Put("c");
                await response.WriteAsync("d");
                Put("e");
                break;
        }

        void Put(string text)
        {
            response.BodyWriter.GetSpan(1)[0] = (byte)text[0];
            response.BodyWriter.Advance(1);
        }
    }

    private async Task<HttpResponseMessage> ExpireAsync(Server server)
    {
        Task<HttpResponseMessage> pending = server.GetAsync("/", "100");
        await _inside.Task.Soon();
        server.Time.Advance(TimeSpan.FromMilliseconds(100));
        return await pending.Soon();
    }

    private sealed class Lifetime : IHttpRequestLifetimeFeature
    {
        public TaskCompletionSource Aborted { get; } = new();

        public CancellationToken RequestAborted { get; set; }

        public void Abort() => Aborted.TrySetResult();
    }

    private sealed class StartedResponse : HttpResponseFeature
    {
        public override bool HasStarted => true;
    }

    /// <summary>Notes what is looked up, from a moment on.</summary>
    private sealed class WatchedFeatures : IFeatureCollection
    {
        private readonly FeatureCollection _inner = new();
        private int _revision;
        private bool _watches;

        public ConcurrentQueue<string> Found { get; } = new();

        public bool IsReadOnly => false;

        public int Revision => _inner.Revision + _revision;

        public object? this[Type key]
        {
            get => _inner[Noted(key)];
            set => _inner[key] = value;
        }

        /// <summary>Whoever remembers what was found before looks again.</summary>
        public void StartToWatch()
        {
            _revision++;
            _watches = true;
        }

        public TFeature? Get<TFeature>() => (TFeature?)this[typeof(TFeature)];

        public void Set<TFeature>(TFeature? instance) => this[typeof(TFeature)] = instance;

        public IEnumerator<KeyValuePair<Type, object>> GetEnumerator() => _inner.GetEnumerator();

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

        private Type Noted(Type key)
        {
            if (_watches)
            {
                Found.Enqueue(key.Name);
            }

            return key;
        }
    }
}
