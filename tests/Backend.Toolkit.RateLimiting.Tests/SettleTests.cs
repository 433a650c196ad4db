using CsCheck;
using Microsoft.Extensions.Time.Testing;
using static Backend.Toolkit.RateLimiting.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Tests;

public sealed class SettleTests
{
    public static TheoryData<SlidingWindowMode?> Kinds => new() { (SlidingWindowMode?)null, SlidingWindowMode.Estimate, SlidingWindowMode.Exact };

    [Theory]
    [MemberData(nameof(Kinds))]
    public void What_was_charged_too_much_is_given_back(SlidingWindowMode? kind)
    {
        var limiter = New(kind, new FakeTimeProvider(), Per(10, 60));
        limiter.TryAcquire("a", 8, out RateLimitDecision decision);

        limiter.Settle(decision, 3);

        limiter.TryAcquire("a", 8, out _).Should().BeFalse();
        limiter.TryAcquire("a", 7, out _).Should().BeTrue();
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void What_was_charged_too_little_is_owed(SlidingWindowMode? kind)
    {
        FakeTimeProvider time = new();
        var limiter = New(kind, time, Per(10, 60));
        limiter.TryAcquire("a", 1, out RateLimitDecision decision);

        limiter.Settle(decision, 10);

        limiter.TryAcquire("a", 1, out _).Should().BeFalse();
        time.Advance(TimeSpan.FromSeconds(120));
        limiter.TryAcquire("a", 10, out _).Should().BeTrue();
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void What_is_given_back_whole_leaves_a_limiter_as_if_never_used(SlidingWindowMode? kind)
    {
        FakeTimeProvider time = new();
        var limiter = New(kind, time, Per(10, 60));
        time.Advance(TimeSpan.FromSeconds(75));
        limiter.TryAcquire("a", 4, out RateLimitDecision decision);

        limiter.Settle(decision, 0);

        limiter.TryAcquire("a", 0, out RateLimitDecision seen);
        (seen.Remaining, seen.ResetAfter).Should().Be((10, TimeSpan.Zero));
    }

    [Fact]
    public void What_is_charged_after_a_reload_of_an_unused_key_is_given_back()
    {
        FakeTimeProvider time = new();
        KeyedSlidingWindowLimiterOptions<string> Options(int permits) => With(new KeyedSlidingWindowLimiterOptions<string> { KeySelector = key => key, Mode = SlidingWindowMode.Exact }, Per(permits, 60));
        var limiter = new KeyedSlidingWindowLimiter<string>(Options(10), time);
        limiter.TryAcquire("a", 1, out RateLimitDecision first);
        limiter.Settle(first, 0);
        limiter.Update(Options(9));
        limiter.TryAcquire("a", 9, out RateLimitDecision decision).Should().BeTrue();

        limiter.Settle(decision, 0);

        limiter.TryAcquire("a", 9, out _).Should().BeTrue();
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void What_is_owed_is_owed_under_every_limit(SlidingWindowMode? kind)
    {
        FakeTimeProvider time = new();
        var limiter = New(kind, time, Per(10, 10), Per(12, 1200));
        limiter.TryAcquire("a", 1, out RateLimitDecision decision);

        limiter.Settle(decision, 10);

        time.Advance(TimeSpan.FromSeconds(20));
        limiter.TryAcquire("a", 3, out _).Should().BeFalse();
        limiter.TryAcquire("a", 2, out _).Should().BeTrue();
    }

    [Fact]
    public void A_bucket_can_owe_more_than_its_burst()
    {
        FakeTimeProvider time = new();
        var limiter = New(null, time, PerSecond(1, burst: 10));
        limiter.TryAcquire("a", 1, out RateLimitDecision decision);

        limiter.Settle(decision, 100);

        limiter.TryAcquire("a", 1, out RateLimitDecision refused).Should().BeFalse();
        refused.RetryAfter.Should().Be(TimeSpan.FromSeconds(91));
        refused.ResetAfter.Should().Be(TimeSpan.FromSeconds(100));
        refused.Remaining.Should().Be(0);
    }

    [Fact]
    public void A_log_out_of_which_debt_pushed_entries_gives_nothing_back()
    {
        FakeTimeProvider time = new();
        var limiter = New(SlidingWindowMode.Exact, time, Per(10, 60));
        limiter.TryAcquire("a", 4, out _);
        time.Advance(TimeSpan.FromSeconds(1));
        limiter.TryAcquire("a", 6, out RateLimitDecision decision);
        limiter.TryAcquire("a", 1, out RateLimitDecision refused);
        limiter.Settle(refused, 4);

        limiter.Settle(decision, 0);

        limiter.TryAcquire("a", 3, out _).Should().BeFalse();
    }

    [Fact]
    public void An_estimate_full_of_debt_gives_nothing_back()
    {
        FakeTimeProvider time = new();
        var limiter = New(SlidingWindowMode.Estimate, time, Per(1_000_000, 10));
        limiter.TryAcquire("a", 1_000_000, out RateLimitDecision decision);
        limiter.TryAcquire("a", 1, out RateLimitDecision refused);
        limiter.Settle(refused, int.MaxValue);

        limiter.Settle(decision, 0);

        time.Advance(TimeSpan.FromSeconds(15));
        limiter.TryAcquire("a", 1, out _).Should().BeFalse();
    }

    [Fact]
    public void A_key_that_drained_and_came_back_in_another_slot_is_given_nothing_back_of_before()
    {
        FakeTimeProvider time = new();
        for (int round = 0; round < 20; round++)
        {
            var limiter = new KeyedTokenBucketLimiter<long>(With(new KeyedTokenBucketLimiterOptions<long> { KeySelector = key => key, Capacity = 64, WhenFull = WhenFull.Deny }, Per(10, 10)), time);
            for (int i = 0; i < 10; i++)
            {
                limiter.TryAcquire(1, 10, out RateLimitDecision whole);
                limiter.Settle(whole, 0);
            }

            limiter.TryAcquire(1, 10, out RateLimitDecision before).Should().BeTrue();
            time.Advance(TimeSpan.FromSeconds(10));
            for (long other = 100; other < 1_000; other++)
            {
                limiter.TryAcquire(other, other % 2 == 0 ? 1 : 9, out _);
            }

            time.Advance(TimeSpan.FromSeconds(1));
            if (limiter.TryAcquire(1, 10, out RateLimitDecision _))
            {
                limiter.Settle(before, 0);

                limiter.TryAcquire(1, 1, out _).Should().BeFalse();
            }
        }
    }

    [Fact]
    public void Debt_without_measure_overflows_nothing()
    {
        var limiter = New(null, new FakeTimeProvider(), PerSecond(300_000_000, burst: int.MaxValue), Per(1, 86_400 * 3000));
        limiter.TryAcquire("a", 1, out RateLimitDecision decision);

        for (int i = 0; i < 100; i++)
        {
            limiter.Settle(decision, int.MaxValue);
        }

        limiter.TryAcquire("a", 1, out RateLimitDecision refused).Should().BeFalse();
        refused.Remaining.Should().Be(0);
        refused.RetryAfter.Should().BePositive();
        refused.ResetAfter.Should().BePositive();
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_refusal_that_is_settled_at_zero_changes_nothing(SlidingWindowMode? kind)
    {
        var limiter = New(kind, new FakeTimeProvider(), Per(5, 60));
        limiter.TryAcquire("a", 5, out _);
        limiter.TryAcquire("a", 1, out RateLimitDecision refused);

        limiter.Settle(refused, 0);

        limiter.TryAcquire("a", 1, out _).Should().BeFalse();
    }

    /// <summary>Two limiters, the same requests; one charges more and settles later. It never has more left than the other, which charged only the real cost.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_refund_never_makes_it_more_permissive_than_if_the_charge_had_not_been(SlidingWindowMode? kind) =>
        Gen.Select(Gen.Int[1, 50], Gen.Select(Gen.Int[0, 40], Gen.Int[0, 50], Gen.Int[0, 50], Gen.Int[0, 30]).Array[1, 40]).Sample((limit, steps) =>
        {
            FakeTimeProvider time = new();
            var charged = New(kind, time, Per(limit, 10));
            var real = New(kind, time, Per(limit, 10));
            Queue<(RateLimitDecision Decision, int Actual, int Due)> open = [];

            for (int i = 0; i < steps.Length; i++)
            {
                (int tenths, int cost, int part, int later) = steps[i];
                time.Advance(TimeSpan.FromSeconds(tenths / 10.0));
                int estimate = 1 + cost % limit, actual = part % (estimate + 1);
                if (charged.TryAcquire("a", estimate, out RateLimitDecision decision))
                {
                    if (actual > 0)
                    {
                        real.TryAcquire("a", actual, out _).Should().BeTrue("what charges less admits at least as much");
                    }

                    open.Enqueue((decision, actual, i + later % 5));
                }

                while (open.TryPeek(out var first) && first.Due <= i)
                {
                    open.Dequeue();
                    charged.Settle(first.Decision, first.Actual);
                }

                charged.TryAcquire("a", 0, out RateLimitDecision one);
                real.TryAcquire("a", 0, out RateLimitDecision other);
                one.Remaining.Should().BeLessThanOrEqualTo(other.Remaining);
                one.ResetAfter.Should().BeGreaterThanOrEqualTo(other.ResetAfter);
            }
        });

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Settling_at_once_leaves_what_the_real_cost_would_have_left(SlidingWindowMode? kind) =>
        Gen.Select(Gen.Int[1, 50], Gen.Select(Gen.Int[0, 40], Gen.Int[0, 50], Gen.Int[0, 50]).Array[1, 40]).Sample((limit, steps) =>
        {
            FakeTimeProvider time = new();
            var charged = New(kind, time, Per(limit, 10), Per(limit * 3, 100));
            var real = New(kind, time, Per(limit, 10), Per(limit * 3, 100));

            foreach ((int tenths, int cost, int part) in steps)
            {
                time.Advance(TimeSpan.FromSeconds(tenths / 10.0));
                int estimate = 1 + cost % limit, actual = part % (estimate + 1);
                if (charged.TryAcquire("a", estimate, out RateLimitDecision decision))
                {
                    charged.Settle(decision, actual);
                    real.TryAcquire("a", actual, out _);
                }

                charged.TryAcquire("a", 0, out RateLimitDecision one);
                real.TryAcquire("a", 0, out RateLimitDecision other);
                (one.Remaining, one.ResetAfter).Should().Be((other.Remaining, other.ResetAfter));
            }
        });

    private static KeyedRateLimiter<string> New(SlidingWindowMode? kind, TimeProvider time, params RateLimit[] limits) => kind is { } mode
        ? new KeyedSlidingWindowLimiter<string>(With(new KeyedSlidingWindowLimiterOptions<string> { KeySelector = key => key, Mode = mode }, limits), time)
        : Keyed(time, limits);
}
