using System.Numerics;
using System.Threading.RateLimiting;
using CsCheck;
using Microsoft.Extensions.Time.Testing;
using static Backend.Toolkit.RateLimiting.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Tests;

/// <summary>Random traces against exact references, in whole numbers of any size.</summary>
public sealed class LimitModelTests
{
    private static Gen<(int Permits, long Ticks, int Burst)> Rates { get; } =
        from permits in Gen.OneOf(Gen.Int[1, 31], Gen.Int[1, 100_000])
        from ticks in Gen.OneOf(Gen.Long[1_000_000, 1_000_000_000], Gen.Long[1_000_000, 100 * TimeSpan.TicksPerDay])
        from burst in Gen.OneOf(Gen.Int[1, 5], Gen.Int[1, 10_000])
        where ticks / permits * burst < 300 * TimeSpan.TicksPerDay
        select (permits, ticks, burst);

    private static Gen<(double Share, double Cost)[]> Traces { get; } =
        Gen.Select(Gen.OneOf(Gen.Const(0.0), Gen.Double[0, 0.1], Gen.Double[0, 2]), Gen.OneOf(Gen.Const(0.0), Gen.Double[0, 1])).Array[1, 60];

    /// <summary>Up to 31 permits a period: then every refill falls on a whole unit.</summary>
    [Fact]
    public void A_bucket_admits_exactly_what_the_reference_admits_and_tells_its_numbers() =>
        Gen.Select(Rates.Where(rate => rate.Permits < 32), Traces).Sample((rate, trace) =>
        {
            FakeTimeProvider time = new();
            TokenBucketLimiter limiter = Bucket(time, new RateLimit(rate.Permits, TimeSpan.FromTicks(rate.Ticks), rate.Burst));
            BucketReference reference = new(rate.Permits, rate.Ticks, rate.Burst);

            foreach ((double share, double cost) in trace)
            {
                long step = (long)(share * rate.Ticks * Math.Max(1, (double)rate.Burst / rate.Permits));
                time.Advance(TimeSpan.FromTicks(step));
                reference.Advance(step);
                int permits = 1 + (int)(cost * (rate.Burst - 1));

                long missing = reference.TicksUntil(permits);
                limiter.TryAcquire(permits, out RateLimitDecision decision).Should().Be(missing == 0);
                decision.RetryAfter.Ticks.Should().Be(missing);
                if (missing == 0)
                {
                    reference.Take(permits);
                }

                decision.Remaining.Should().Be(reference.Whole);
                decision.ResetAfter.Ticks.Should().Be(reference.TicksUntil(rate.Burst));
            }
        });

    [Fact]
    public void No_interval_holds_more_than_burst_and_rate_and_little_less_is_used() =>
        Gen.Select(Rates, Traces).Sample((rate, trace) =>
        {
            FakeTimeProvider time = new();
            TokenBucketLimiter limiter = Bucket(time, new RateLimit(rate.Permits, TimeSpan.FromTicks(rate.Ticks), rate.Burst));
            List<(long At, int Permits)> admitted = [];
            long now = 0;

            foreach ((double share, double cost) in trace)
            {
                long step = (long)(share * rate.Ticks * Math.Max(1, (double)rate.Burst / rate.Permits));
                time.Advance(TimeSpan.FromTicks(step));
                now += step;
                int permits = 1 + (int)(cost * (rate.Burst - 1));
                if (limiter.TryAcquire(permits, out _))
                {
                    admitted.Add((now, permits));
                }
            }

            for (int from = 0; from < admitted.Count; from++)
            {
                BigInteger sum = 0;
                for (int to = from; to < admitted.Count; to++)
                {
                    sum += admitted[to].Permits;
                    BigInteger allowed = (BigInteger)rate.Burst * rate.Ticks + (BigInteger)(admitted[to].At - admitted[from].At) * rate.Permits;
                    (sum * rate.Ticks).Should().BeLessThanOrEqualTo(allowed);
                }
            }
        });

    [Fact]
    public void A_refused_request_is_refused_one_tick_before_its_time_and_admitted_at_it() =>
        Gen.Select(Rates, Traces).Sample((rate, trace) =>
        {
            FakeTimeProvider time = new();
            TokenBucketLimiter limiter = Bucket(time, new RateLimit(rate.Permits, TimeSpan.FromTicks(rate.Ticks), rate.Burst));

            foreach ((double share, double cost) in trace)
            {
                time.Advance(TimeSpan.FromTicks((long)(share * rate.Ticks)));
                int permits = 1 + (int)(cost * (rate.Burst - 1));
                if (!limiter.TryAcquire(permits, out RateLimitDecision decision))
                {
                    AdvanceToJustBefore(time, decision);
                    limiter.TryAcquire(permits, out _).Should().BeFalse();
                    time.Advance(TimeSpan.FromTicks(1));
                    limiter.TryAcquire(permits, out _).Should().BeTrue();
                }
            }
        });

    [Theory]
    [InlineData(7_000_000, 1.0)]
    [InlineData(1, 86_400.0)]
    [InlineData(0.1, 1.0)]
    [InlineData(1234.5, 60.0)]
    [InlineData(300_000_000, 1.0)]
    public void A_rate_is_exact_over_ten_years(double permits, double seconds)
    {
        const int Years = 10;
        FakeTimeProvider time = new();
        TokenBucketLimiter limiter = Bucket(time, Per(permits, seconds, burst: (int)Math.Min(int.MaxValue, permits / seconds * 86_400 * 36_000)));
        double given = 0;

        // Never full: what is left is always taken before the bucket overflows.
        TimeSpan step = TimeSpan.FromSeconds(Math.Min(86_400 * 30, int.MaxValue / (permits / seconds) / 2));
        long steps = Math.Min(200_000, (long)(TimeSpan.FromDays(365 * Years) / step));
        time.Advance(TimeSpan.FromDays(365 * Years) - steps * step);
        limiter.TryAcquire(0, out RateLimitDecision start);
        limiter.TryAcquire((int)start.Remaining, out _).Should().BeTrue();

        for (long i = 0; i < steps; i++)
        {
            time.Advance(step);
            limiter.TryAcquire(0, out RateLimitDecision seen);
            limiter.TryAcquire((int)seen.Remaining, out RateLimitDecision taken).Should().Be(seen.Remaining > 0);
            given += taken.Permits;
        }

        given.Should().BeApproximately(permits / seconds * step.TotalSeconds * steps, 2);
    }

    [Fact]
    public void An_exact_window_admits_exactly_what_a_list_of_instants_admits() =>
        Gen.Select(Gen.OneOf(Gen.Int[1, 5], Gen.Int[1, 200]), Gen.OneOf(Gen.Long[1_000_000, 100_000_000], Gen.Const(1_000_000L)), Traces).Sample((limit, ticks, trace) =>
        {
            FakeTimeProvider time = new();
            SlidingWindowLimiter limiter = Window(time, SlidingWindowMode.Exact, new RateLimit(limit, TimeSpan.FromTicks(ticks)));
            List<long> log = [];
            long now = 0;

            foreach ((double share, double cost) in trace)
            {
                long step = (long)(share * ticks);
                time.Advance(TimeSpan.FromTicks(step));
                now += step;
                int permits = 1 + (int)(cost * (limit - 1));
                List<long> live = [.. log.Where(at => at + ticks > now)];
                long retry = Math.Max(0, live.Count + permits <= limit ? 0 : live[live.Count + permits - limit - 1] + ticks - now);

                limiter.TryAcquire(permits, out RateLimitDecision decision).Should().Be(retry == 0);
                decision.RetryAfter.Ticks.Should().Be(retry);
                if (retry == 0)
                {
                    log.AddRange(Enumerable.Repeat(now, permits));
                    live.AddRange(Enumerable.Repeat(now, permits));
                }

                decision.Remaining.Should().Be(limit - live.Count);
                decision.ResetAfter.Ticks.Should().Be(live.Count == 0 ? 0 : live[^1] + ticks - now);
            }
        });

    [Fact]
    public void An_exact_window_of_any_length_never_holds_more_than_the_limit_and_is_exact_about_retries() =>
        Gen.Select(Gen.Int[1, 50], Gen.Long[1_000_000, 300 * TimeSpan.TicksPerDay], Traces).Sample((limit, ticks, trace) =>
        {
            FakeTimeProvider time = new();
            SlidingWindowLimiter limiter = Window(time, SlidingWindowMode.Exact, new RateLimit(limit, TimeSpan.FromTicks(ticks)));
            List<long> log = [];
            long now = 0;

            foreach ((double share, double cost) in trace)
            {
                long step = (long)(share * ticks);
                time.Advance(TimeSpan.FromTicks(step));
                now += step;
                int permits = 1 + (int)(cost * (limit - 1));
                if (!limiter.TryAcquire(permits, out RateLimitDecision decision))
                {
                    decision.RetryAfter.Ticks.Should().BeInRange(1, ticks + (ticks >> 28) + 2);
                    now += AdvanceToJustBefore(time, decision);
                    limiter.TryAcquire(permits, out _).Should().BeFalse();
                    time.Advance(TimeSpan.FromTicks(1));
                    now++;
                    limiter.TryAcquire(permits, out _).Should().BeTrue();
                }

                log.AddRange(Enumerable.Repeat(now, permits));
                log.Count(at => at + ticks > now).Should().BeLessThanOrEqualTo(limit);
            }
        }, iter: 2_000);

    [Fact]
    public void An_estimated_window_admits_exactly_what_two_counters_admit() =>
        Gen.Select(Gen.OneOf(Gen.Int[1, 5], Gen.Int[1, 1_000_000]), Gen.Long[1_000_000, 40 * TimeSpan.TicksPerDay], Traces).Sample((limit, ticks, trace) =>
        {
            FakeTimeProvider time = new();
            SlidingWindowLimiter limiter = Window(time, SlidingWindowMode.Estimate, new RateLimit(limit, TimeSpan.FromTicks(ticks)));
            Dictionary<long, long> counts = [];
            long now = 0;

            foreach ((double share, double cost) in trace)
            {
                long step = (long)(share * ticks);
                time.Advance(TimeSpan.FromTicks(step));
                now += step;
                int permits = 1 + (int)(cost * (limit - 1));

                bool fits = Fits(permits);
                limiter.TryAcquire(permits, out RateLimitDecision decision).Should().Be(fits);
                if (!fits)
                {
                    now += AdvanceToJustBefore(time, decision);
                    Fits(permits).Should().BeFalse();
                    limiter.TryAcquire(permits, out _).Should().BeFalse();
                    time.Advance(TimeSpan.FromTicks(1));
                    now++;
                    Fits(permits).Should().BeTrue();
                    limiter.TryAcquire(permits, out decision).Should().BeTrue();
                }

                counts[now / ticks] = counts.GetValueOrDefault(now / ticks) + permits;
                decision.Remaining.Should().Be(Largest());
            }

            bool Fits(long permits)
            {
                long number = now / ticks;
                return (BigInteger)counts.GetValueOrDefault(number - 1) * (ticks - now % ticks) + (BigInteger)(counts.GetValueOrDefault(number) + permits) * ticks <= (BigInteger)limit * ticks;
            }

            long Largest()
            {
                long number = now / ticks;
                BigInteger room = (BigInteger)limit * ticks - (BigInteger)counts.GetValueOrDefault(number - 1) * (ticks - now % ticks) - (BigInteger)counts.GetValueOrDefault(number) * ticks;
                return room < 0 ? 0 : (long)(room / ticks);
            }
        }, iter: 2_000);

    [Theory]
    [InlineData(1_234_567)]
    [InlineData(299_999_999)]
    [InlineData(77_777.7)]
    public void A_rate_without_exact_units_is_full_at_the_very_second(double perSecond)
    {
        FakeTimeProvider time = new();
        int burst = (int)perSecond;
        var limiter = Bucket(time, PerSecond(perSecond, burst));

        for (int i = 0; i < 100; i++)
        {
            limiter.TryAcquire(burst, out _).Should().BeTrue();
            time.Advance(TimeSpan.FromSeconds(1));
        }
    }

    [Fact]
    public async Task Debt_that_outlasts_the_clock_hangs_nobody()
    {
        HandTime time = new();
        var limiter = Bucket(time, Per(1, 86_400));
        time.Now = TimeSpan.FromDays(365 * 150);
        limiter.TryAcquire(1, out RateLimitDecision decision).Should().BeTrue();

        limiter.Settle(decision, int.MaxValue);

        TimeSpan? idle = await Task.Run(() => limiter.IdleDuration, TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken);
        idle.Should().BeNull();
        limiter.TryAcquire(1, out _).Should().BeFalse();
    }

    [Theory]
    [InlineData(null, 1)]
    [InlineData(null, 16)]
    [InlineData(SlidingWindowMode.Estimate, 1)]
    [InlineData(SlidingWindowMode.Estimate, 2)]
    [InlineData(SlidingWindowMode.Estimate, 16)]
    [InlineData(SlidingWindowMode.Exact, 16)]
    public void A_clock_that_goes_back_gives_nothing_back_and_retries_stay_exact(SlidingWindowMode? mode, int seconds)
    {
        HandTime time = new();
        RateLimiter limiter = mode is { } kind ? Window(time, kind, Per(10, 1)) : Bucket(time, Per(10, 1));
        time.Now = TimeSpan.FromSeconds(50);
        limiter.AttemptAcquire(10).IsAcquired.Should().BeTrue();

        time.Now -= TimeSpan.FromSeconds(seconds);
        limiter.AttemptAcquire().TryGetMetadata(MetadataName.RetryAfter, out TimeSpan retryAfter).Should().BeTrue();

        time.Now += retryAfter - TimeSpan.FromTicks(1);
        limiter.AttemptAcquire().IsAcquired.Should().BeFalse();
        limiter.IdleDuration.Should().BeNull();
        time.Now += TimeSpan.FromTicks(1);
        limiter.AttemptAcquire().IsAcquired.Should().BeTrue();
        time.Now += TimeSpan.FromDays(30);
        limiter.IdleDuration.Should().BeGreaterThan(TimeSpan.FromDays(29));
    }

    [Theory]
    [InlineData(SlidingWindowMode.Estimate)]
    [InlineData(SlidingWindowMode.Exact)]
    [InlineData(null)]
    public void A_composite_admits_exactly_when_each_of_its_limits_alone_would(SlidingWindowMode? mode) =>
        Gen.Select(Gen.Select(Gen.Int[1, 20], Gen.Long[1_000_000, 50_000_000]).Array[2, 4], Traces).Sample((limits, trace) =>
        {
            FakeTimeProvider time = new();
            RateLimit[] some = [.. limits.Select(limit => new RateLimit(limit.Item1, TimeSpan.FromTicks(limit.Item2)))];
            var composite = New(some);
            var singles = some.Select(limit => New(limit)).ToArray();
            int most = some.Min(limit => (int)limit.Permits);

            foreach ((double share, double cost) in trace)
            {
                time.Advance(TimeSpan.FromTicks((long)(share * limits.Max(limit => limit.Item2))));
                int permits = 1 + (int)(cost * (most - 1));
                RateLimitDecision[] each = [.. singles.Select(single => { single(permits, out RateLimitDecision decision); return decision; })];
                bool all = each.All(decision => decision.IsAdmitted);

                composite(permits, out RateLimitDecision seen).Should().Be(all);
                seen.RetryAfter.Should().Be(each.Max(decision => decision.RetryAfter));
                if (!all)
                {
                    // From here on those of the singles that admitted hold a charge that the composite does not.
                    return;
                }

                seen.Remaining.Should().Be(each.Min(decision => decision.Remaining));
                seen.ResetAfter.Should().Be(each.Max(decision => decision.ResetAfter));
            }

            TryAcquire New(params RateLimit[] those) => mode is { } window ? Window(time, window, those).TryAcquire : Bucket(time, those).TryAcquire;
        });

    [Theory]
    [InlineData(SlidingWindowMode.Estimate)]
    [InlineData(SlidingWindowMode.Exact)]
    [InlineData(null)]
    public void A_refused_composite_leaves_no_charge_behind(SlidingWindowMode? mode)
    {
        FakeTimeProvider time = new();
        RateLimit[] limits = [Per(10, 1), Per(5, 100), Per(1000, 1000), Per(20, 10)];
        TryAcquire limiter = mode is { } window ? Window(time, window, limits).TryAcquire : Bucket(time, limits).TryAcquire;
        limiter(5, out _).Should().BeTrue();
        limiter(0, out RateLimitDecision before);

        for (int i = 0; i < 100; i++)
        {
            limiter(1, out RateLimitDecision refused).Should().BeFalse();
            refused.ResetAfter.Should().Be(before.ResetAfter);
        }
    }

    private static long AdvanceToJustBefore(FakeTimeProvider time, in RateLimitDecision decision)
    {
        time.Advance(decision.RetryAfter - TimeSpan.FromTicks(1));
        return decision.RetryAfter.Ticks - 1;
    }

    private delegate bool TryAcquire(int permits, out RateLimitDecision decision);

    /// <summary>Tokens in parts of which <c>ticks</c> make one, so that a tick gives <c>permits</c> parts.</summary>
    private sealed class BucketReference(long permits, long ticks, long burst)
    {
        private BigInteger _parts = (BigInteger)burst * ticks;

        public long Whole => (long)(_parts / ticks);

        public void Advance(long step) => _parts = BigInteger.Min((BigInteger)burst * ticks, _parts + (BigInteger)step * permits);

        public void Take(int count) => _parts -= (BigInteger)count * ticks;

        public long TicksUntil(long count) => (long)BigInteger.Max(0, ((BigInteger)count * ticks - _parts + permits - 1) / permits);
    }
}
