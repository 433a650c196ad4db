using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.TimeoutBudgets;

namespace Backend.Toolkit.Http.Tests;

/// <summary>What a call leaves behind, whatever became of it: nothing.</summary>
public sealed class LeakTests
{
    [Fact]
    public async Task No_token_outlives_its_call_though_that_of_its_caller_does()
    {
        using var caller = new CancellationTokenSource();
        using var ambient = TimeoutBudget.Start(TimeSpan.FromHours(1));

        List<WeakReference> tokens = await CallInAllWaysAsync(caller.Token);

        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        tokens.Should().HaveCountGreaterThan(150);
        tokens.Count(token => token.IsAlive).Should().BeLessThanOrEqualTo(1, "the last one may still be in somebody's register");
        GC.KeepAlive(caller);
        GC.KeepAlive(ambient);
    }

    /// <summary>Many calls at once to a server that does whatever it likes: each rule holds for each call.</summary>
    [Fact]
    public async Task Under_any_mixture_of_answers_every_call_ends_and_nothing_is_lost()
    {
        const int Calls = 1_500;
        using var trouble = new Trouble();
        using var policy = new OutboundPolicy(Outbound.Options(options =>
        {
            options.Attempt!.Total = TimeSpan.FromMilliseconds(20);
            options.Budget!.Total = TimeSpan.FromMilliseconds(80);
            options.RetryBudget = null;
            options.CircuitBreaker!.ConsecutiveFailures = 5;
            options.CircuitBreaker.BreakDuration = TimeSpan.FromMilliseconds(5);
        }));
        using var client = new HttpMessageInvoker(new OutboundPolicyHandler(policy) { InnerHandler = trouble });
        var returned = new ConcurrentBag<HttpResponseMessage>();
        var failures = new ConcurrentDictionary<Type, int>();

        await Parallel.ForAsync(0, Calls, new ParallelOptions { MaxDegreeOfParallelism = 16 }, async (call, _) =>
        {
            using var caller = new CancellationTokenSource();
            using var request = new HttpRequestMessage(HttpMethod.Get, $"http://host{call % 4}/");
            Task<HttpResponseMessage> pending = client.SendAsync(request, caller.Token);
            if (call % 7 == 0)
            {
                await caller.CancelAsync();
            }

            try
            {
                returned.Add(await pending.Soon());
            }
            catch (Exception exception) when (exception is OperationCanceledException or HttpRequestException or TimeoutBudgetExceededException or CircuitOpenException)
            {
                failures.AddOrUpdate(exception.GetType(), 1, static (_, count) => count + 1);
            }
        });

        (returned.Count + failures.Values.Sum()).Should().Be(Calls);
        failures.Should().HaveCountGreaterThanOrEqualTo(3);
        trouble.Overlaps.Should().Be(0);
        trouble.MostAttempts.Should().BeInRange(2, 3);
        trouble.Replies.Except(returned).Cast<Reply>().Should().OnlyContain(reply => reply.IsDisposed);
        returned.Cast<Reply>().Should().OnlyContain(reply => !reply.IsDisposed);

        // No permit was lost: a circuit that is half-open lets its probe through.
        trouble.IsOver = true;
        foreach (int host in Enumerable.Range(0, 4))
        {
            CircuitBreaker circuit = policy.CircuitBreakers.For(new HttpAuthority("http", $"host{host}", 80));
            Eventually.BeTrue(() => circuit.State != CircuitState.Open, "breaks are short");
            using HttpResponseMessage response = await client.SendAsync(new HttpRequestMessage(HttpMethod.Get, $"http://host{host}/"), default).Soon();
            ((int)response.StatusCode).Should().Be(200);
        }
    }

    /// <summary>In a method of its own, so that no local of the test keeps anything.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static async Task<List<WeakReference>> CallInAllWaysAsync(CancellationToken caller)
    {
        var tokens = new List<WeakReference>();
        using var outbound = new Outbound(options =>
        {
            options.CircuitBreaker = null;
            options.RetryBudget = null;
        });
        var bodies = new List<Pipe>();
        outbound.Server.Answer = async (number, _, token) =>
        {
            // Lives as long as the source of the token does.
            object mark = new();
            token.UnsafeRegister(static _ => { }, mark);
            tokens.Add(new WeakReference(mark));
            switch (number % 5)
            {
                case 0:
                    throw new HttpRequestException(HttpRequestError.ConnectionError);
                case 1:
                    return new Reply(503);
                case 2:
                    await Task.Yield();
                    return new Reply(500);
                default:
                    var body = new Pipe();
                    bodies.Add(body);
                    return new Reply(200) { Content = new StreamContent(body) };
            }
        };
        for (int call = 0; call < 100; call++)
        {
            try
            {
                HttpResponseMessage response = await outbound.GetAsync(caller);
                if (call % 2 == 0 && response.Content is not null && bodies.Count > 0)
                {
                    // A read that has to wait, and a response that nobody disposes.
                    Stream stream = await response.Content.ReadAsStreamAsync(CancellationToken.None);
                    ValueTask<int> reading = stream.ReadAsync(new byte[1], caller);
                    bodies[^1].Push(1);
                    await reading;
                }
            }
            catch (HttpRequestException)
            {
            }
        }

        return tokens;
    }

    private sealed class Trouble : HttpMessageHandler
    {
        private readonly ConditionalWeakTable<HttpRequestMessage, StrongBox<(int InFlight, int Attempts)>> _requests = [];
        private int _overlaps;
        private int _mostAttempts;

        public volatile bool IsOver;

        public int Overlaps => _overlaps;

        public int MostAttempts => _mostAttempts;

        public ConcurrentBag<HttpResponseMessage> Replies { get; } = [];

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (IsOver)
            {
                return new Reply(200);
            }

            StrongBox<(int InFlight, int Attempts)> state = _requests.GetOrAdd(request, static _ => new());
            if (Interlocked.Increment(ref state.Value.InFlight) > 1)
            {
                Interlocked.Increment(ref _overlaps);
            }

            InterlockedMax(ref _mostAttempts, Interlocked.Increment(ref state.Value.Attempts));
            try
            {
                switch (Random.Shared.Next(8))
                {
                    case 0:
                        throw new HttpRequestException(HttpRequestError.ConnectionError);
                    case 1:
                        return await Server.Hang(cancellationToken);
                    case 2:
                        await Task.Yield();
                        break;
                    case 3:
                        // Late, and deaf to its token.
                        await Server.Hang(cancellationToken).ContinueWith(static _ => { }, TaskScheduler.Default);
                        break;
                }

                var reply = new Reply(Random.Shared.Next(3) switch { 0 => 200, 1 => 503, _ => 404 });
                Replies.Add(reply);
                return reply;
            }
            finally
            {
                Interlocked.Decrement(ref state.Value.InFlight);
            }
        }

        private static void InterlockedMax(ref int most, int value)
        {
            for (int seen = most; seen < value; seen = most)
            {
                Interlocked.CompareExchange(ref most, value, seen);
            }
        }
    }
}
