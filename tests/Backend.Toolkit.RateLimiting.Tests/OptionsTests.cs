using Microsoft.Extensions.Options;
using static Backend.Toolkit.RateLimiting.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Tests;

public sealed class OptionsTests
{
    public static TheoryData<RateLimit, string> BadBuckets => new()
    {
        { Per(0, 1), "Permits" },
        { Per(-1, 1), "Permits" },
        { Per(double.NaN, 1), "Permits" },
        { Per(double.PositiveInfinity, 1), "Permits" },
        { Per(1e300, 1), "Permits" },
        { Per(double.Epsilon, 1), "Permits" },
        { Per(300_000_001, 1), "Permits" },
        { Per(1, 0), "Period" },
        { Per(1, -1), "Period" },
        { new RateLimit(1, TimeSpan.MaxValue), "Period" },
        { Per(1, 1, 0), "Burst" },
        { Per(1, 1, -5), "Burst" },
        { Per(1, 86_400, int.MaxValue), "Burst" },
        { Per(3e9, 60), "Burst" },
    };

    public static TheoryData<RateLimit, SlidingWindowMode, string> BadWindows => new()
    {
        { Per(0.5, 1), SlidingWindowMode.Estimate, "Permits" },
        { Per(1.5, 1), SlidingWindowMode.Exact, "Permits" },
        { Per(1_000_001, 1), SlidingWindowMode.Estimate, "Permits" },
        { Per(10_001, 1), SlidingWindowMode.Exact, "Permits" },
        { Per(double.NaN, 1), SlidingWindowMode.Estimate, "Permits" },
        { Per(1, 0.09), SlidingWindowMode.Exact, "Period" },
        { Per(1, 1, 5), SlidingWindowMode.Estimate, "Burst" },
    };

    [Theory]
    [MemberData(nameof(BadBuckets))]
    public void A_bad_bucket_is_refused_with_the_rule_and_the_value(RateLimit limit, string about)
    {
        var options = With(new TokenBucketLimiterOptions { Name = "api" }, limit);

        options.Invoking(it => new TokenBucketLimiter(it)).Should().Throw<OptionsValidationException>().WithMessage($"api: Limits must be limits *{about}*, but one *");
    }

    [Theory]
    [MemberData(nameof(BadWindows))]
    public void A_bad_window_is_refused_with_the_rule_and_the_value(RateLimit limit, SlidingWindowMode mode, string about)
    {
        var options = With(new SlidingWindowLimiterOptions { Name = "api", Mode = mode }, limit);

        options.Invoking(it => new SlidingWindowLimiter(it)).Should().Throw<OptionsValidationException>().WithMessage($"api: Limits must be limits *{about}*, but one *");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    public void There_are_one_to_four_limits(int count)
    {
        var options = With(new TokenBucketLimiterOptions(), [.. Enumerable.Repeat(new RateLimit(), count)]);

        options.Problems().Should().Equal($"TokenBucketLimiterOptions: Limits must be 1 to 4 limits, but is {count}.");
    }

    [Fact]
    public void Whatever_else_is_out_of_range_is_told_all_at_once()
    {
        var options = With(
            new KeyedSlidingWindowLimiterOptions<string> { Name = "k", QueueLimit = -1, QueueProcessingOrder = (System.Threading.RateLimiting.QueueProcessingOrder)7, Mode = (SlidingWindowMode)9, Capacity = 63, WhenFull = (WhenFull)8 },
            new RateLimit(), null!);

        options.Problems().Should().BeEquivalentTo(
            "k: Limits must be limits other than null.",
            "k: QueueLimit must be between 0 and 1000000, but is -1.",
            "k: QueueProcessingOrder must be OldestFirst or NewestFirst, but is 7.",
            "k: Mode must be Estimate or Exact, but is 9.",
            "k: KeySelector must be set, but is null.",
            "k: WhenFull must be EvictClosestToDrained, Deny or SharedOverflow, but is 8.",
            "k: Capacity must be between 64 and 67108864, but is 63.");
    }

    [Fact]
    public void Logs_that_would_not_fit_into_memory_are_refused()
    {
        var options = With(new KeyedSlidingWindowLimiterOptions<string> { Name = "k", Mode = SlidingWindowMode.Exact, KeySelector = key => key, Capacity = 1_000_000 }, Per(10_000, 60));

        options.Problems().Should().ContainSingle().Which.Should().StartWith("k: Capacity must be so small");
    }

    [Fact]
    public void What_the_limits_of_the_ranges_are_works()
    {
        foreach (RateLimit limit in new[] { PerSecond(300_000_000, int.MaxValue), Per(1, 86_400.0 * 3650, 10), Per(0.001, 0.001), new RateLimit(1, TimeSpan.FromMilliseconds(1), int.MaxValue) })
        {
            TokenBucketLimiter limiter = Bucket(null, limit);
            limiter.TryAcquire((int)(limit.Burst ?? 1), out RateLimitDecision decision).Should().BeTrue();
            decision.ResetAfter.Should().BePositive();
        }
    }
}
