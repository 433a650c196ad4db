using static Backend.Toolkit.RateLimiting.Redis.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Redis.Tests;

[Collection("The meter")]
public sealed class AllocationTests(RedisFixture redis) : IClassFixture<RedisFixture>
{
    [Fact]
    public async Task What_is_decided_here_allocates_nothing()
    {
        using RedisTokenBucketLimiter<string> leasing = Make(redis.Connection, Per(100_000, 360_000), o => o.LeaseSize = 50_000);
        using RedisTokenBucketLimiter<string> refusing = Make(redis.Connection, Per(1, 360_000));
        await leasing.AcquireDecisionAsync("one");
        await refusing.AcquireDecisionAsync("one");
        await refusing.AcquireDecisionAsync("one");

        // Until the calls are compiled as those of a service are: what is compiled first, in a hurry, allocates what does not escape.
        long bytes = Measure(leasing, refusing);
        for (int rounds = 0; bytes > 0 && rounds < 100; rounds++)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
            bytes = Measure(leasing, refusing);
        }

        bytes.Should().Be(0);
    }

    /// <summary>On one thread: nothing is awaited.</summary>
    private static long Measure(RedisTokenBucketLimiter<string> leasing, RedisTokenBucketLimiter<string> refusing)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        Run(100);
        return GC.GetAllocatedBytesForCurrentThread() - before;

        void Run(int times)
        {
            for (int i = 0; i < times; i++)
            {
                if (!leasing.TryAcquire("one", 1, out _) || !leasing.AcquireDecisionAsync("one").Result.IsAdmitted || refusing.AcquireDecisionAsync("one").Result.IsAdmitted)
                {
                    throw new InvalidOperationException("Not decided here.");
                }
            }
        }
    }
}
