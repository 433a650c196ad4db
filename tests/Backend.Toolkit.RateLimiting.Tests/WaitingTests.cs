using System.Threading.RateLimiting;
using Microsoft.Extensions.Time.Testing;
using static Backend.Toolkit.RateLimiting.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Tests;

public sealed class WaitingTests
{
    private static TimeSpan Long { get; } = TimeSpan.FromSeconds(30);

    [Fact]
    public async Task One_timer_serves_any_number_of_waiters_each_at_its_own_instant()
    {
        TimerCountingTime time = new();
        var limiter = NewKeyed(time, queueLimit: 10, Per(1, 1));
        List<(Task<RateLimitDecision> Wait, double At)> waits = [];
        for (int key = 0; key < 50; key++)
        {
            time.Advance(TimeSpan.FromMilliseconds(10));
            limiter.TryAcquire($"{key}", 1, out _);
            waits.Add((limiter.AcquireDecisionAsync($"{key}").AsTask(), (key + 1) / 100.0 + 1));
            waits.Add((limiter.AcquireDecisionAsync($"{key}").AsTask(), (key + 1) / 100.0 + 2));
        }

        for (int hundredths = 51; hundredths < 260; hundredths++)
        {
            time.Advance(TimeSpan.FromMilliseconds(10));
            foreach (var wait in waits.Where(wait => wait.At < hundredths / 100.0 + 1e-6))
            {
                (await wait.Wait.WaitAsync(Long)).IsAdmitted.Should().BeTrue();
            }

            waits.Count(wait => wait.At > hundredths / 100.0 + 1e-6 && wait.Wait.IsCompleted).Should().Be(0);
        }

        time.Timers.Should().Be(1);
    }

    [Theory]
    [InlineData(1.999, false)]
    [InlineData(2.0, false)]
    [InlineData(2.001, true)]
    [InlineData(0.0, false)]
    [InlineData(-1.0, false)]
    [InlineData(null, true)]
    public async Task A_wait_that_would_last_as_long_as_the_time_left_is_refused_at_once(double? left, bool waits)
    {
        FakeTimeProvider time = new();
        var limiter = new TokenBucketLimiter(With(new TokenBucketLimiterOptions { QueueLimit = 10, TimeLeft = () => left is null ? null : TimeSpan.FromSeconds(left.Value) }, Per(1, 1)), time);
        limiter.TryAcquire(1, out _);
        limiter.Settle(Peek(limiter), 1);

        ValueTask<RateLimitDecision> wait = limiter.AcquireDecisionAsync();

        wait.IsCompleted.Should().Be(!waits);
        if (!waits)
        {
            RateLimitDecision refused = await wait;
            (refused.IsAdmitted, refused.RetryAfter).Should().Be((false, TimeSpan.FromSeconds(2)));
        }
    }

    [Fact]
    public void Time_left_that_throws_is_logged_and_there_is_no_deadline()
    {
        LogList log = new();
        var limiter = new TokenBucketLimiter(With(new TokenBucketLimiterOptions { Name = "api", QueueLimit = 1, TimeLeft = () => throw new InvalidOperationException("no") }, Per(1, 1)), new FakeTimeProvider(), log);
        limiter.TryAcquire(1, out _);

        limiter.AcquireDecisionAsync().IsCompleted.Should().BeFalse();

        log.Entries.Should().ContainSingle().Which.Message.Should().Contain("'api'").And.Contain("TimeLeft");
    }

    [Fact]
    public async Task The_time_to_wait_counts_those_ahead()
    {
        FakeTimeProvider time = new();
        TimeSpan? left = null;
        var limiter = new TokenBucketLimiter(With(new TokenBucketLimiterOptions { QueueLimit = 100, TimeLeft = () => left }, Per(10, 10)), time);
        limiter.TryAcquire(10, out _);
        _ = limiter.AcquireDecisionAsync(10);
        _ = limiter.AcquireDecisionAsync(5);

        left = TimeSpan.FromSeconds(16);
        RateLimitDecision refused = await limiter.AcquireDecisionAsync(1);

        refused.RetryAfter.Should().Be(TimeSpan.FromSeconds(16));
        left = TimeSpan.FromSeconds(16.001);
        limiter.AcquireDecisionAsync(1).IsCompleted.Should().BeFalse();
    }

    [Fact]
    public async Task Who_is_refused_behind_others_and_goes_on_all_the_same_owes_what_it_cost()
    {
        FakeTimeProvider time = new();
        var limiter = NewKeyed(time, queueLimit: 10, Per(10, 10));
        limiter.TryAcquire("a", 10, out _);
        Task<RateLimitDecision> wait = limiter.AcquireDecisionAsync("a", 5).AsTask();
        limiter.TryAcquire("a", 1, out RateLimitDecision refused).Should().BeFalse();
        refused.RetryAfter.Should().Be(TimeSpan.FromSeconds(6));

        limiter.Settle(refused, 2);

        time.Advance(TimeSpan.FromSeconds(6.9));
        wait.IsCompleted.Should().BeFalse();
        time.Advance(TimeSpan.FromSeconds(0.2));
        (await wait.WaitAsync(Long)).IsAdmitted.Should().BeTrue();
    }

    [Fact]
    public async Task Those_who_wait_for_a_look_are_bounded_like_others()
    {
        FakeTimeProvider time = new();
        var limiter = NewKeyed(time, queueLimit: 3, Per(1, 10));
        limiter.TryAcquire("a", 1, out _);

        Task<RateLimitDecision>[] looks = [.. Enumerable.Range(0, 10).Select(_ => limiter.AcquireDecisionAsync("a", 0).AsTask())];

        looks.Count(look => !look.IsCompleted).Should().Be(3);
        time.Advance(TimeSpan.FromSeconds(10));
        RateLimitDecision[] decisions = await Task.WhenAll(looks).WaitAsync(Long);
        decisions.Count(decision => decision.IsAdmitted).Should().Be(3);
    }

    [Fact]
    public async Task Who_comes_when_all_who_wait_are_due_but_for_a_late_timer_is_admitted_after_them()
    {
        FakeTimeProvider time = new();
        var limiter = NewKeyed(time, queueLimit: 10, Per(10_000, 1, 10));
        limiter.TryAcquire("a", 10, out _);
        Task<RateLimitDecision> wait = limiter.AcquireDecisionAsync("a").AsTask();

        time.Advance(TimeSpan.FromMicroseconds(199));
        limiter.TryAcquire("a", 1, out RateLimitDecision early).Should().BeFalse();
        time.Advance(early.RetryAfter);

        limiter.TryAcquire("a", 1, out _).Should().BeTrue();
        early.RetryAfter.Should().Be(TimeSpan.FromMicroseconds(1));
        (await wait.WaitAsync(Long)).IsAdmitted.Should().BeTrue();
    }

    [Theory]
    [InlineData(QueueProcessingOrder.OldestFirst)]
    [InlineData(QueueProcessingOrder.NewestFirst)]
    public async Task A_long_line_that_gives_up_from_its_end_or_is_served_costs_the_same_for_each(QueueProcessingOrder order)
    {
        const int Waiters = 100_000;
        FakeTimeProvider time = new();
        var limiter = new TokenBucketLimiter(With(new TokenBucketLimiterOptions { QueueLimit = Waiters, QueueProcessingOrder = order }, Per(Waiters, 1)), time);
        limiter.TryAcquire(Waiters, out _);
        CancellationTokenSource[] sources = [.. Enumerable.Range(0, Waiters).Select(_ => new CancellationTokenSource())];
        Task<RateLimitDecision>[] waits = [.. sources.Select(source => limiter.AcquireDecisionAsync(1, source.Token).AsTask())];

        Task served = Task.Run(() =>
        {
            for (int i = Waiters - 1; order == QueueProcessingOrder.OldestFirst && i >= 0; i--)
            {
                sources[i].Cancel();
            }

            time.Advance(TimeSpan.FromSeconds(1));
        }, CancellationToken.None);

        // Were each looked for in the line, this would take a minute.
        await served.WaitAsync(TimeSpan.FromSeconds(10));
        await Task.WhenAll(waits).WaitAsync(Long).ContinueWith(_ => { }, TaskScheduler.Default);
        waits.Should().OnlyContain(wait => order == QueueProcessingOrder.OldestFirst ? wait.IsCanceled : wait.IsCompletedSuccessfully);
    }

    [Fact]
    public async Task Disposed_without_blocking_a_keyed_limiter_refuses_those_who_wait()
    {
        var limiter = NewKeyed(new FakeTimeProvider(), queueLimit: 10, Per(1, 10));
        limiter.TryAcquire("a", 1, out _);
        Task<RateLimitDecision> wait = limiter.AcquireDecisionAsync("a").AsTask();

        await limiter.DisposeAsync();

        (await wait.WaitAsync(Long)).IsAdmitted.Should().BeFalse();
        limiter.Invoking(it => it.TryAcquire("a", 1, out RateLimitDecision _)).Should().Throw<ObjectDisposedException>();
    }

    [Fact]
    public async Task What_is_given_back_between_the_refusal_and_the_wait_admits_at_once()
    {
        TokenBucketLimiter limiter = null!;
        RateLimitDecision decision = default;
        limiter = new TokenBucketLimiter(With(new TokenBucketLimiterOptions { QueueLimit = 10, TimeLeft = GiveBack }, Per(10, 1000)), new FakeTimeProvider());
        limiter.TryAcquire(10, out decision);

        ValueTask<RateLimitDecision> wait = limiter.AcquireDecisionAsync(3);

        wait.IsCompleted.Should().BeTrue();
        (await wait).IsAdmitted.Should().BeTrue();

        TimeSpan? GiveBack()
        {
            limiter.Settle(decision, 0);
            return null;
        }
    }

    [Fact]
    public async Task What_is_given_back_admits_who_waits()
    {
        var limiter = NewKeyed(new FakeTimeProvider(), queueLimit: 10, Per(10, 1000));
        limiter.TryAcquire("a", 10, out RateLimitDecision decision);
        Task<RateLimitDecision> wait = limiter.AcquireDecisionAsync("a", 3).AsTask();

        limiter.Settle(decision, 7);

        (await wait.WaitAsync(Long)).IsAdmitted.Should().BeTrue();
    }

    [Fact]
    public async Task New_limits_admit_who_fits_and_refuse_who_never_will()
    {
        FakeTimeProvider time = new();
        var limiter = NewKeyed(time, queueLimit: 20, Per(10, 1000));
        limiter.TryAcquire("a", 10, out _);
        Task<RateLimitDecision> eight = limiter.AcquireDecisionAsync("a", 8).AsTask(), two = limiter.AcquireDecisionAsync("a", 2).AsTask();

        limiter.Update(Options(20, Per(5, 1000)));
        RateLimitDecision never = await eight.WaitAsync(Long);
        two.IsCompleted.Should().BeFalse();
        limiter.Update(Options(20, Per(50, 1000)));

        (never.IsAdmitted, never.RetryAfter).Should().Be((false, Timeout.InfiniteTimeSpan));
        (await two.WaitAsync(Long)).IsAdmitted.Should().BeTrue();
    }

    [Fact]
    public async Task Waiting_giving_up_and_settling_at_random_leaves_nobody_behind()
    {
        var limiter = new KeyedTokenBucketLimiter<int>(With(new KeyedTokenBucketLimiterOptions<int> { KeySelector = key => key, QueueLimit = 50 }, Per(200, 1, 3)));
        int admitted = 0, cancelled = 0, refused = 0;

        await Task.WhenAll(Enumerable.Range(0, 8).Select(worker => Task.Run(async () =>
        {
            Random random = new(worker);
            for (int i = 0; i < 150; i++)
            {
                using var source = new CancellationTokenSource();
                if (random.Next(2) == 0)
                {
                    source.CancelAfter(TimeSpan.FromMilliseconds(random.Next(1, 15)));
                }

                try
                {
                    RateLimitDecision decision = await limiter.AcquireDecisionAsync(random.Next(4), random.Next(1, 4), source.Token);
                    _ = decision.IsAdmitted ? Interlocked.Increment(ref admitted) : Interlocked.Increment(ref refused);
                    if (random.Next(3) == 0)
                    {
                        limiter.Settle(decision, 0);
                    }
                }
                catch (OperationCanceledException)
                {
                    Interlocked.Increment(ref cancelled);
                }
            }
        }))).WaitAsync(TimeSpan.FromSeconds(60));

        (admitted + cancelled + refused).Should().Be(8 * 150);
        admitted.Should().BePositive();
        cancelled.Should().BePositive();
        Enumerable.Range(0, 4).Sum(key => limiter.GetStatistics(key).CurrentQueuedCount).Should().Be(0);
    }

    private static RateLimitDecision Peek(TokenBucketLimiter limiter)
    {
        limiter.TryAcquire(0, out RateLimitDecision decision);
        return decision;
    }

    private static KeyedTokenBucketLimiter<string> NewKeyed(TimeProvider time, int queueLimit, params RateLimit[] limits) => new(Options(queueLimit, limits), time);

    private static KeyedTokenBucketLimiterOptions<string> Options(int queueLimit, params RateLimit[] limits) =>
        With(new KeyedTokenBucketLimiterOptions<string> { KeySelector = key => key, QueueLimit = queueLimit }, limits);
}
