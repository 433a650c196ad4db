using System.Threading.RateLimiting;
using static Backend.Toolkit.RateLimiting.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Tests;

/// <remarks>One after the other: whoever listens to the meter makes everybody's requests cost memory.</remarks>
[Collection("The meter")]
public sealed class AllocationTests
{
    [Fact]
    public void Nothing_is_allocated_to_admit_or_refuse_on_the_face_with_decisions()
    {
        var bucket = Bucket(null, PerSecond(1, burst: 500));
        var composite = Bucket(null, PerSecond(1, burst: 500), Per(1000, 1000));
        var estimate = Window(null, SlidingWindowMode.Estimate, Per(500, 1000));
        var exact = Window(null, SlidingWindowMode.Exact, Per(500, 1000));
        var keyed = Keyed(null, PerSecond(1, burst: 500));
        IReadOnlyList<RateLimit> plan = [Per(500, 1000)];
        var planned = new KeyedTokenBucketLimiter<string>(With(new KeyedTokenBucketLimiterOptions<string> { KeySelector = key => key, LimitsFor = _ => plan }, Per(10, 10)));

        long allocated = Measure(() =>
        {
            bucket.TryAcquire(1, out RateLimitDecision decision);
            bucket.Settle(decision, 0);
            _ = decision.RetryAfter + decision.ResetAfter;
            composite.TryAcquire(1, out _);
            estimate.TryAcquire(1, out _);
            exact.TryAcquire(1, out _);
            keyed.TryAcquire("key", 1, out _);
            planned.TryAcquire("key", 1, out _);
        });

        allocated.Should().Be(0);
    }

    [Fact]
    public void A_new_key_allocates_nothing()
    {
        var keyed = new KeyedTokenBucketLimiter<long>(With(new KeyedTokenBucketLimiterOptions<long> { KeySelector = key => key }, PerSecond(1)));
        long key = 0;

        long allocated = Measure(() => keyed.TryAcquire(key++, 1, out _));

        allocated.Should().Be(0);
    }

    [Fact]
    public void Nothing_is_allocated_to_admit_on_the_face_of_the_framework()
    {
        var bucket = Bucket(null, PerSecond(1, burst: int.MaxValue));
        var keyed = Keyed(null, PerSecond(1, burst: int.MaxValue));

        long allocated = Measure(() =>
        {
            using RateLimitLease one = bucket.AttemptAcquire();
            using RateLimitLease other = keyed.AttemptAcquire("key");
        });

        allocated.Should().Be(0);
    }

    private static long Measure(Action action)
    {
        for (int i = 0; i < 1000; i++)
        {
            action();
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            action();
        }

        return GC.GetAllocatedBytesForCurrentThread() - before;
    }
}
