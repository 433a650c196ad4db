using CsCheck;

namespace Backend.Toolkit.RetryPolicies.Tests;

public sealed class BackoffTests
{
    private static readonly Gen<RetryPolicyOptions> Options =
        from cap in Gen.Long[0, TimeSpan.TicksPerDay]
        from @base in Gen.Long[0, cap]
        from backoff in Gen.Enum<RetryBackoff>()
        from jitter in Gen.Enum<RetryJitter>()
        select new RetryPolicyOptions { BaseDelay = new TimeSpan(@base), MaxDelay = new TimeSpan(cap), Backoff = backoff, Jitter = jitter };

    [Theory]
    [InlineData(RetryBackoff.Constant, new[] { 200, 200, 200, 200, 200, 200, 200 })]
    [InlineData(RetryBackoff.Linear, new[] { 200, 400, 600, 800, 1000, 1000, 1000 })]
    [InlineData(RetryBackoff.Exponential, new[] { 200, 400, 800, 1000, 1000, 1000, 1000 })]
    public void Without_jitter_the_wait_grows_to_the_cap(RetryBackoff backoff, int[] milliseconds)
    {
        RetrySettings settings = Settings(new RetryPolicyOptions { Backoff = backoff, Jitter = RetryJitter.None, MaxDelay = TimeSpan.FromSeconds(1) });

        IEnumerable<TimeSpan> waits = Waits(settings, milliseconds.Length, new Random(1));

        waits.Should().Equal(milliseconds.Select(value => TimeSpan.FromMilliseconds(value)));
    }

    [Fact]
    public void Full_jitter_spreads_from_zero_to_the_capped_wait()
    {
        TimeSpan[] drawn = Drawn(RetryJitter.Full, retry: 2);

        ShouldSpread(drawn, TimeSpan.Zero, TimeSpan.FromMilliseconds(400));
    }

    [Fact]
    public void Equal_jitter_spreads_from_half_to_all_of_the_capped_wait()
    {
        TimeSpan[] drawn = Drawn(RetryJitter.Equal, retry: 2);

        ShouldSpread(drawn, TimeSpan.FromMilliseconds(200), TimeSpan.FromMilliseconds(400));
    }

    [Fact]
    public void Decorrelated_jitter_spreads_from_the_base_to_three_times_the_previous_wait()
    {
        TimeSpan[] first = Drawn(RetryJitter.Decorrelated, retry: 1);
        TimeSpan[] second = Drawn(RetryJitter.Decorrelated, retry: 2, previous: TimeSpan.FromSeconds(1));

        ShouldSpread(first, TimeSpan.FromMilliseconds(200), TimeSpan.FromMilliseconds(600));
        ShouldSpread(second, TimeSpan.FromMilliseconds(200), TimeSpan.FromSeconds(3));
    }

    [Theory]
    [InlineData(RetryJitter.Full, 0)]
    [InlineData(RetryJitter.Equal, 5_000)]
    [InlineData(RetryJitter.Decorrelated, 200)]
    public void A_fleet_at_the_cap_still_spreads(RetryJitter jitter, int lowestMilliseconds)
    {
        TimeSpan[] drawn = Drawn(jitter, retry: 50, previous: TimeSpan.FromSeconds(10));

        ShouldSpread(drawn, TimeSpan.FromMilliseconds(lowestMilliseconds), TimeSpan.FromSeconds(10));
        drawn.Count(wait => wait == TimeSpan.FromSeconds(10)).Should().BeLessThan(10);
    }

    [Fact]
    public void Attempt_1000_with_a_base_of_a_day_waits_at_most_the_cap()
    {
        foreach (RetryBackoff backoff in Enum.GetValues<RetryBackoff>())
        {
            foreach (RetryJitter jitter in Enum.GetValues<RetryJitter>())
            {
                RetrySettings settings = Settings(new RetryPolicyOptions
                {
                    BaseDelay = TimeSpan.FromDays(1),
                    MaxDelay = TimeSpan.FromDays(1),
                    Backoff = backoff,
                    Jitter = jitter,
                });

                Waits(settings, 1000, new Random(1)).Should().OnlyContain(wait => wait >= TimeSpan.Zero && wait <= TimeSpan.FromDays(1));
            }
        }
    }

    [Fact]
    public void No_options_and_no_attempt_leave_zero_to_the_cap_and_without_jitter_it_never_shrinks() => Gen.Select(Options, Gen.Int[1, 2_000], Gen.Int).Sample(
        (options, retries, seed) =>
        {
            TimeSpan[] waits = [.. Waits(Settings(options), retries, new Random(seed))];
            TimeSpan lowest = options.Jitter == RetryJitter.Decorrelated ? options.BaseDelay : TimeSpan.Zero;

            return waits.All(wait => wait >= lowest && wait <= options.MaxDelay)
                && (options.Jitter != RetryJitter.None || waits.Zip(waits.Skip(1)).All(pair => pair.First <= pair.Second));
        },
        iter: 300);

    [Fact]
    public void Without_jitter_the_wait_is_what_unbounded_arithmetic_says() => Gen.Select(Options, Gen.Int[1, 1_000]).Sample(
        (options, retry) =>
        {
            options.Jitter = RetryJitter.None;
            System.Numerics.BigInteger @base = options.BaseDelay.Ticks;
            System.Numerics.BigInteger grown = options.Backoff switch
            {
                RetryBackoff.Constant => @base,
                RetryBackoff.Linear => @base * retry,
                _ => @base << (retry - 1),
            };
            long previous = 0;

            return Settings(options).Backoff(retry, ref previous, Random.Shared).Ticks == System.Numerics.BigInteger.Min(grown, options.MaxDelay.Ticks);
        },
        iter: 5_000);

    private static RetrySettings Settings(RetryPolicyOptions options)
    {
        options.ThrowIfInvalid();
        return new RetrySettings(options, RetryBudget.Unlimited, "test", null);
    }

    private static IEnumerable<TimeSpan> Waits(RetrySettings settings, int count, Random random)
    {
        long previous = 0;
        for (int retry = 1; retry <= count; retry++)
        {
            yield return settings.Backoff(retry, ref previous, random);
        }
    }

    private static TimeSpan[] Drawn(RetryJitter jitter, int retry, TimeSpan previous = default)
    {
        RetrySettings settings = Settings(new RetryPolicyOptions { Jitter = jitter });
        var random = new Random(42);
        return [.. Enumerable.Range(0, 10_000).Select(_ =>
        {
            long ticks = previous.Ticks;
            return settings.Backoff(retry, ref ticks, random);
        })];
    }

    /// <summary>Uniform: within the bounds, and each tenth of the range holds about a tenth of the draws.</summary>
    private static void ShouldSpread(TimeSpan[] drawn, TimeSpan lowest, TimeSpan highest)
    {
        drawn.Should().OnlyContain(wait => wait >= lowest && wait <= highest);
        for (int tenth = 0; tenth < 10; tenth++)
        {
            TimeSpan from = lowest + (highest - lowest) * (tenth / 10.0);
            TimeSpan to = lowest + (highest - lowest) * ((tenth + 1) / 10.0);
            drawn.Count(wait => wait >= from && wait < to).Should().BeInRange(850, 1150, "tenth {0}", tenth);
        }
    }
}
