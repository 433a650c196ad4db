using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.CircuitBreakers.Tests;

public sealed class ConcurrencyTests
{
    private const int Workers = 4;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Nothing_is_lost_when_many_threads_report_at_once(bool slowCalls)
    {
        var breaker = new CircuitBreaker(new CircuitBreakerOptions
        {
            Window = TimeSpan.FromHours(1),
            FailureRatio = 0.9,
            SlowCallDuration = slowCalls ? TimeSpan.FromSeconds(100) : null,
        });

        await InParallel(_ =>
        {
            for (int i = 0; i < 50_000; i++)
            {
                CircuitPermit permit = breaker.Enter();
                if (i % 5 == 0)
                {
                    permit.Failure();
                }
                else
                {
                    permit.Success();
                }
            }
        });

        breaker.Counts.Should().Be(new CallCounts(Workers * 40_000, Workers * 10_000, 0));
        breaker.IsBusy.Should().BeFalse("every call has left its cohort");
    }

    [Fact]
    public async Task Cohorts_that_move_on_under_traffic_neither_lose_nor_invent_calls()
    {
        var settings = new CircuitSettings(new CircuitBreakerOptions { SlowCallDuration = TimeSpan.FromSeconds(1) }, new Clock(new FakeTimeProvider()));
        var slowCalls = new SlowCalls(0, settings);
        var gate = new Lock();
        long now = 0;
        int most = 0;

        await InParallel(worker =>
        {
            var random = new Random(worker);
            for (int i = 0; i < 100_000; i++)
            {
                if (worker == 0)
                {
                    lock (gate)
                    {
                        now += settings.CohortUnits * random.Next(1, 20);
                        slowCalls.Advance(now, settings);
                    }
                }

                int cohort = slowCalls.Enter();
                InterlockedMax(ref most, slowCalls.Overdue);
                if (!slowCalls.TryLeave(cohort))
                {
                    lock (gate)
                    {
                        slowCalls.LeaveOverdue();
                    }
                }
            }
        });

        most.Should().BeInRange(0, Workers);
        slowCalls.Overdue.Should().Be(0);
        slowCalls.Any().Should().BeFalse();
    }

    [Fact]
    public async Task Buckets_that_move_on_under_traffic_lose_no_report()
    {
        var settings = new CircuitSettings(new CircuitBreakerOptions(), new Clock(new FakeTimeProvider()));
        var window = new CallWindow(0, settings);
        int running = Workers - 1;

        await InParallel(worker =>
        {
            if (worker > 0)
            {
                for (int i = 0; i < 100_000; i++)
                {
                    window.Add(CallWindow.OneSuccess);
                }

                Interlocked.Decrement(ref running);
                return;
            }

            // Eight turns keep every bucket in the ring; they are spread over the traffic.
            for (int turn = 1; turn <= 8; turn++)
            {
                long before = window.Total().Successes;
                SpinWait.SpinUntil(() => Volatile.Read(ref running) == 0 || window.Total().Successes > before + 20_000, TimeSpan.FromSeconds(5));
                window.Advance(turn * settings.BucketUnits, settings, padded: false);
            }
        });

        window.Total().Should().Be(new CallCounts((Workers - 1) * 100_000, 0, 0));
    }

    [Fact]
    public async Task However_many_threads_ask_no_more_probes_are_out_than_allowed()
    {
        var time = new FakeTimeProvider();
        CircuitBreaker breaker = Circuits.HalfOpen(time, o => (o.ProbeCount, o.ProbeSuccesses) = (3, 1000));
        int outNow = 0;
        int most = 0;
        int admitted = 0;

        await InParallel(_ =>
        {
            for (int i = 0; i < 5_000; i++)
            {
                if (breaker.TryEnter(out CircuitPermit permit))
                {
                    int now = Interlocked.Increment(ref outNow);
                    InterlockedMax(ref most, now);
                    Interlocked.Increment(ref admitted);
                    Thread.Yield();
                    Interlocked.Decrement(ref outNow);
                    permit.Release();
                }
            }
        });

        most.Should().BeInRange(1, 3);
        admitted.Should().BeGreaterThan(100);
        breaker.State.Should().Be(CircuitState.HalfOpen);
    }

    [Fact]
    public async Task Openings_resets_reloads_and_time_interleave_without_corrupting_anything()
    {
        var time = new FakeTimeProvider();
        CircuitBreakerOptions plain = Circuits.Options();
        CircuitBreakerOptions tracking = Circuits.Options(o => o.SlowCallDuration = TimeSpan.FromMilliseconds(800));
        var breaker = new CircuitBreaker(tracking, time);
        int changes = 0;
        CircuitState last = CircuitState.Closed;
        bool inOrder = true;
        breaker.StateChanged += (_, change) =>
        {
            inOrder &= change.Previous == last;
            last = change.Current;
            changes++;
        };

        await InParallel(worker =>
        {
            var random = new Random(worker);
            var held = new Queue<CircuitPermit>();
            for (int i = 0; i < 20_000; i++)
            {
                switch (random.Next(40))
                {
                    case 0:
                        time.Advance(TimeSpan.FromMilliseconds(random.Next(700)));
                        break;
                    case 1:
                        breaker.Update(random.Next(2) == 0 ? plain : tracking);
                        break;
                    case 2 when random.Next(20) == 0:
                        breaker.Reset();
                        break;
                    case < 20 when held.Count < 10:
                        if (breaker.TryEnter(out CircuitPermit permit))
                        {
                            held.Enqueue(permit);
                        }

                        break;
                    default:
                        if (held.TryDequeue(out CircuitPermit done))
                        {
                            breaker.Report(done, (CallOutcome)random.Next(3));
                        }

                        CallCounts counts = breaker.Counts;
                        (counts.Successes >= 0 && counts.Failures >= 0 && counts.Slow >= 0).Should().BeTrue();
                        break;
                }
            }

            foreach (CircuitPermit permit in held)
            {
                permit.Release();
            }
        });

        changes.Should().BeGreaterThan(10);
        inOrder.Should().BeTrue("changes are told in order, one at a time");
        breaker.Reset();
        last.Should().Be(CircuitState.Closed);
    }

    [Fact]
    public void With_traffic_neither_open_nor_half_open_outlasts_break_and_lease()
    {
        var time = new FakeTimeProvider();
        CircuitBreaker breaker = Circuits.Open(time, o => (o.BreakGrowth, o.ProbeLease) = (1, TimeSpan.FromSeconds(3)));
        DateTimeOffset left = time.GetUtcNow();
        TimeSpan longest = TimeSpan.Zero;
        int changes = 0;
        breaker.StateChanged += (_, _) =>
        {
            changes++;
            longest = longest > time.GetUtcNow() - left ? longest : time.GetUtcNow() - left;
            left = time.GetUtcNow();
        };

        // Every probe hangs.
        for (int i = 0; i < 2_000; i++)
        {
            time.Advance(TimeSpan.FromMilliseconds(100));
            breaker.TryEnter(out CircuitPermit _);
        }

        longest.Should().BeCloseTo(Circuits.Break, TimeSpan.FromSeconds(0.1), "the lease is shorter than the break");
        changes.Should().BeGreaterThan(45, "each round of 8 s has two changes");
    }

    private static void InterlockedMax(ref int target, int value)
    {
        int seen;
        while ((seen = Volatile.Read(ref target)) < value && Interlocked.CompareExchange(ref target, value, seen) != seen)
        {
        }
    }

    private static Task InParallel(Action<int> work) =>
        Task.WhenAll(Enumerable.Range(0, Workers).Select(worker => Task.Factory.StartNew(
            () => work(worker), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)));
}
