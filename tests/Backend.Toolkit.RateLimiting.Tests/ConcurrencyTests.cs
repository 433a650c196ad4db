using Microsoft.Extensions.Time.Testing;
using static Backend.Toolkit.RateLimiting.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Tests;

public sealed class ConcurrencyTests
{
    private const int Threads = 6;

    public static TheoryData<SlidingWindowMode?, bool> Kinds => new() { { null, false }, { null, true }, { SlidingWindowMode.Estimate, false }, { SlidingWindowMode.Exact, false }, { SlidingWindowMode.Exact, true } };

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Many_threads_get_exactly_what_there_is(SlidingWindowMode? kind, bool composite)
    {
        RateLimit[] limits = composite ? [Per(5000, 1000), Per(7000, 2000), Per(9000, 900)] : [Per(5000, 1000)];
        var limiter = New(kind, new FakeTimeProvider(), null, limits);
        int admitted = 0;

        OnThreads(_ =>
        {
            for (int i = 0; i < 5_000; i++)
            {
                if (limiter.TryAcquire(1, 1, out RateLimitDecision _))
                {
                    Interlocked.Increment(ref admitted);
                }
            }
        });

        admitted.Should().Be(5000);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Charges_that_are_all_settled_at_nothing_leave_nothing(SlidingWindowMode? kind, bool composite)
    {
        RateLimit[] limits = composite ? [Per(7, 1000), Per(50, 2000)] : [Per(7, 1000)];
        var limiter = New(kind, new FakeTimeProvider(), null, limits);

        OnThreads(_ =>
        {
            for (int i = 0; i < 5_000; i++)
            {
                if (limiter.TryAcquire(1, 2, out RateLimitDecision decision))
                {
                    limiter.Settle(decision, 0);
                }
            }
        });

        limiter.TryAcquire(1, 7, out _).Should().BeTrue();
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Keys_that_come_and_go_in_a_full_table_never_get_more_than_theirs(SlidingWindowMode? kind, bool composite)
    {
        // Denied: so nobody forgets a key in use. Time stands still, so each key gets exactly its limit at most, and those that got in exactly that.
        RateLimit[] limits = composite ? [Per(20, 1000), Per(30, 2000)] : [Per(20, 1000)];
        var limiter = New(kind, new FakeTimeProvider(), WhenFull.Deny, limits);
        int[] admitted = new int[200];

        OnThreads(thread =>
        {
            Random random = new(thread);
            for (int i = 0; i < 20_000; i++)
            {
                int key = random.Next(admitted.Length);
                if (limiter.TryAcquire(key, 1, out RateLimitDecision _))
                {
                    Interlocked.Increment(ref admitted[key]);
                }
            }
        });

        admitted.Should().OnlyContain(count => count == 0 || count == 20);
        admitted.Count(count => count == 20).Should().BeInRange(50, 68);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Reloads_under_load_lose_no_charge_and_hang_nobody(SlidingWindowMode? kind, bool composite)
    {
        RateLimit[] limits = composite ? [Per(500, 1000), Per(900, 2000)] : [Per(500, 1000)];
        RateLimit[] others = composite ? [Per(500, 1000), Per(901, 2000)] : [Per(500, 1000), Per(900, 2000)];
        var limiter = New(kind, new FakeTimeProvider(), WhenFull.Deny, limits);
        int[] admitted = new int[20];

        OnThreads(thread =>
        {
            Random random = new(thread);
            for (int i = 0; i < 10_000; i++)
            {
                if (thread == 0 && i % 100 == 0)
                {
                    Update(limiter, kind, i % 200 == 0 ? others : limits);
                }

                int key = random.Next(admitted.Length);
                if (limiter.TryAcquire(key, 1, out RateLimitDecision _))
                {
                    Interlocked.Increment(ref admitted[key]);
                }
            }
        });

        // A charge under way while its key is moved may be kept twice, never lost.
        admitted.Should().OnlyContain(count => count <= 500);
        admitted.Average().Should().BeGreaterThan(490);
    }

    [Fact]
    public void Evictions_under_load_leave_every_key_with_one_slot()
    {
        FakeTimeProvider time = new();
        var limiter = New(null, time, WhenFull.EvictClosestToDrained, [Per(1000, 1000)]);
        int heavy = 0;

        OnThreads(thread =>
        {
            Random random = new(thread);
            for (int i = 0; i < 20_000; i++)
            {
                limiter.TryAcquire(random.Next(1_000, 1_000_000), 1, out _);
                if (limiter.TryAcquire(1, 10, out _))
                {
                    Interlocked.Add(ref heavy, 10);
                }
            }
        });

        heavy.Should().Be(1000);
    }

    [Fact]
    public void On_the_system_clock_no_interval_holds_more_than_the_stated_bound()
    {
        const double Rate = 50_000;
        const int Burst = 100;
        var limiter = Bucket(null, PerSecond(Rate, Burst));
        List<long>[] admitted = [.. Enumerable.Range(0, Threads).Select(_ => new List<long>(100_000))];
        long end = TimeProvider.System.GetTimestamp() + TimeProvider.System.TimestampFrequency / 2;

        OnThreads(thread =>
        {
            while (TimeProvider.System.GetTimestamp() < end)
            {
                if (limiter.TryAcquire(1, out _))
                {
                    admitted[thread].Add(TimeProvider.System.GetTimestamp());
                }
            }
        });

        // A thread may be held up between the decision and its note of the time: the whole run is what can be judged.
        double seconds = 0.5 + 0.016;
        int sum = admitted.Sum(list => list.Count);
        sum.Should().BeLessThanOrEqualTo((int)(Burst + Rate * seconds) + Threads);
    }

    [Fact]
    public void On_the_system_clock_a_refusal_says_exactly_when_to_come_back()
    {
        var limiter = Bucket(null, PerSecond(100, burst: 1));

        for (int i = 0; i < 20; i++)
        {
            RateLimitDecision refused;
            while (limiter.TryAcquire(1, out refused))
            {
                // This thread was held up for longer than a permit takes.
            }

            long after = TimeProvider.System.GetTimestamp();
            while (TimeProvider.System.GetElapsedTime(after) < refused.RetryAfter)
            {
                Thread.SpinWait(10);
            }

            limiter.TryAcquire(1, out _).Should().BeTrue();
        }
    }

    [Fact]
    public void On_the_system_clock_all_refusals_name_the_same_instant()
    {
        var limiter = Bucket(null, PerSecond(40, burst: 1));
        long start = TimeProvider.System.GetTimestamp();

        // The first rounds warm up.
        for (int round = 0; round < 10; round++)
        {
            TimeSpan latest = TimeSpan.MinValue, earliest = TimeSpan.MaxValue;
            while (true)
            {
                TimeSpan before = TimeProvider.System.GetElapsedTime(start);
                if (limiter.TryAcquire(1, out RateLimitDecision refused))
                {
                    break;
                }

                TimeSpan after = TimeProvider.System.GetElapsedTime(start);
                latest = before + refused.RetryAfter > latest ? before + refused.RetryAfter : latest;
                earliest = after + refused.RetryAfter < earliest ? after + refused.RetryAfter : earliest;
            }

            latest.Should().BeLessThanOrEqualTo(earliest == TimeSpan.MaxValue ? earliest : earliest + TimeSpan.FromMicroseconds(1));
        }
    }

    [Fact]
    public void A_new_key_that_many_ask_for_at_once_gets_one_slot()
    {
        const int Keys = 20_000;
        var limiter = new KeyedTokenBucketLimiter<long>(With(new KeyedTokenBucketLimiterOptions<long> { KeySelector = key => key, WhenFull = WhenFull.Deny }, Per(1, 1000)), new FakeTimeProvider());
        int[] admitted = new int[Keys];
        using Barrier barrier = new(Threads);

        OnThreads(_ =>
        {
            for (int key = 0; key < Keys; key++)
            {
                if (key % 100 == 0)
                {
                    barrier.SignalAndWait();
                }

                if (limiter.TryAcquire(key, 1, out RateLimitDecision _))
                {
                    Interlocked.Increment(ref admitted[key]);
                }
            }
        });

        admitted.Should().OnlyContain(count => count == 1);
    }

    [Theory]
    [InlineData(null, false)]
    [InlineData(null, true)]
    [InlineData(SlidingWindowMode.Exact, false)]
    public void A_key_whose_plan_changes_while_others_take_its_slot_never_gets_what_they_used(SlidingWindowMode? kind, bool composite)
    {
        // Few slots are free. Who took one uses up its limit, and gives back all; a key below zero changes its plan with every call, and never has more than one permit in use.
        RateLimit[] limits = composite ? [Per(20, 1000), Per(30, 2000)] : [Per(20, 1000)], own = [Per(5, 1000)];
        int calls = 0, wrong = 0;
        bool isDone = false;
        var limiter = New(kind, new FakeTimeProvider(), WhenFull.Deny, limits, key => key < 0 && Interlocked.Increment(ref calls) % 2 == 0 ? own : null);
        for (long key = 1_000; key < 1_059; key++)
        {
            limiter.TryAcquire(key, 20, out _);
        }

        OnThreads(thread =>
        {
            for (int i = 0; i < 1_500_000 && !Volatile.Read(ref isDone); i++)
            {
                long key = thread == 0 ? -1 - i % 4 : thread * 1_000_000 + i % 1_000;
                if (thread == 0 && !limiter.TryAcquire(key, 0, out RateLimitDecision seen) && seen.ResetAfter > TimeSpan.Zero)
                {
                    wrong++;
                    break;
                }

                if ((thread > 0 || i % 8 < 4) && limiter.TryAcquire(key, thread == 0 ? 1 : 20, out RateLimitDecision decision))
                {
                    limiter.Settle(decision, 0);
                }
            }

            Volatile.Write(ref isDone, true);
        }, threads: 3);

        wrong.Should().Be(0);
    }

    private static void OnThreads(Action<int> body, int threads = Threads)
    {
        Task[] tasks = [.. Enumerable.Range(0, threads).Select(thread => Task.Factory.StartNew(() => body(thread), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default))];
        Task.WaitAll(tasks, TimeSpan.FromSeconds(60)).Should().BeTrue("nothing hangs");
    }

    private static KeyedRateLimiter<long> New(SlidingWindowMode? kind, TimeProvider time, WhenFull? whenFull, RateLimit[] limits, Func<long, IReadOnlyList<RateLimit>?>? limitsFor = null) => kind is { } mode
        ? new KeyedSlidingWindowLimiter<long>(With(new KeyedSlidingWindowLimiterOptions<long> { KeySelector = key => key, Mode = mode, Capacity = 64, WhenFull = whenFull ?? default, LimitsFor = limitsFor }, limits), time)
        : new KeyedTokenBucketLimiter<long>(With(new KeyedTokenBucketLimiterOptions<long> { KeySelector = key => key, Capacity = 64, WhenFull = whenFull ?? default, LimitsFor = limitsFor }, limits), time);

    private static void Update(KeyedRateLimiter<long> limiter, SlidingWindowMode? kind, RateLimit[] limits)
    {
        if (limiter is KeyedSlidingWindowLimiter<long> window)
        {
            window.Update(With(new KeyedSlidingWindowLimiterOptions<long> { KeySelector = key => key, Mode = kind!.Value, Capacity = 64, WhenFull = WhenFull.Deny }, limits));
        }
        else
        {
            ((KeyedTokenBucketLimiter<long>)limiter).Update(With(new KeyedTokenBucketLimiterOptions<long> { KeySelector = key => key, Capacity = 64, WhenFull = WhenFull.Deny }, limits));
        }
    }
}
