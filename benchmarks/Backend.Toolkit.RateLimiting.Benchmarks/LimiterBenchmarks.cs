using System.Threading.RateLimiting;
using Backend.Toolkit.RateLimiting;
using BenchmarkDotNet.Attributes;

/// <summary>One limiter that admits, and one that refuses: the framework's token bucket, and both faces of ours.</summary>
public class LimiterBenchmarks
{
    private const int Calls = 1000;

    // The most that the framework's bucket takes: it never runs dry within a benchmark, and neither timer nor clock is part of its calls.
    private static readonly TokenBucketRateLimiter Theirs = new(new TokenBucketRateLimiterOptions { TokenLimit = int.MaxValue, TokensPerPeriod = int.MaxValue, ReplenishmentPeriod = TimeSpan.FromSeconds(1) });
    private static readonly TokenBucketLimiter Ours = New(new RateLimit(20_000_000, TimeSpan.FromSeconds(1), int.MaxValue));
    private static readonly TokenBucketRateLimiter TheirsFar = Spent(new TokenBucketRateLimiter(new TokenBucketRateLimiterOptions { TokenLimit = 1, TokensPerPeriod = 1, ReplenishmentPeriod = TimeSpan.FromDays(1) }));
    private static readonly TokenBucketLimiter OursFar = Spent(New(new RateLimit(1, TimeSpan.FromDays(1))));
    private static readonly TokenBucketRateLimiter TheirsNear = Spent(new TokenBucketRateLimiter(new TokenBucketRateLimiterOptions { TokenLimit = 1, TokensPerPeriod = 1, ReplenishmentPeriod = TimeSpan.FromMilliseconds(20), AutoReplenishment = false }));
    private static readonly TokenBucketLimiter OursNear = Spent(New(new RateLimit(1, TimeSpan.FromMilliseconds(20))));
    private static readonly TwoThreads Threads = new();

    [BenchmarkCategory("admit"), Benchmark(Baseline = true, Description = "TokenBucketRateLimiter.AttemptAcquire", OperationsPerInvoke = Calls)]
    public void Framework() => Attempt(Theirs);

    [BenchmarkCategory("admit"), Benchmark(Description = "TokenBucketLimiter.TryAcquire", OperationsPerInvoke = Calls)]
    public void Toolkit() => TryAcquire(Ours);

    [BenchmarkCategory("admit"), Benchmark(Description = "TokenBucketLimiter.AttemptAcquire", OperationsPerInvoke = Calls)]
    public void ToolkitAbstract() => Attempt(Ours);

    [BenchmarkCategory("admit, 2 threads"), Benchmark(Baseline = true, Description = "TokenBucketRateLimiter.AttemptAcquire", OperationsPerInvoke = 2 * Calls)]
    public void Framework2() => Threads.Run(() => Attempt(Theirs));

    [BenchmarkCategory("admit, 2 threads"), Benchmark(Description = "TokenBucketLimiter.TryAcquire", OperationsPerInvoke = 2 * Calls)]
    public void Toolkit2() => Threads.Run(() => TryAcquire(Ours));

    [BenchmarkCategory("admit, 2 threads"), Benchmark(Description = "TokenBucketLimiter.AttemptAcquire", OperationsPerInvoke = 2 * Calls)]
    public void ToolkitAbstract2() => Threads.Run(() => Attempt(Ours));

    [BenchmarkCategory("refuse, far from due"), Benchmark(Baseline = true, Description = "TokenBucketRateLimiter.AttemptAcquire", OperationsPerInvoke = Calls)]
    public void FrameworkFar() => Attempt(TheirsFar);

    [BenchmarkCategory("refuse, far from due"), Benchmark(Description = "TokenBucketLimiter.TryAcquire", OperationsPerInvoke = Calls)]
    public void ToolkitFar() => TryAcquire(OursFar);

    [BenchmarkCategory("refuse, far from due"), Benchmark(Description = "TokenBucketLimiter.AttemptAcquire", OperationsPerInvoke = Calls)]
    public void ToolkitFarAbstract() => Attempt(OursFar);

    [BenchmarkCategory("refuse, far from due, 2 threads"), Benchmark(Baseline = true, Description = "TokenBucketRateLimiter.AttemptAcquire", OperationsPerInvoke = 2 * Calls)]
    public void FrameworkFar2() => Threads.Run(() => Attempt(TheirsFar));

    [BenchmarkCategory("refuse, far from due, 2 threads"), Benchmark(Description = "TokenBucketLimiter.TryAcquire", OperationsPerInvoke = 2 * Calls)]
    public void ToolkitFar2() => Threads.Run(() => TryAcquire(OursFar));

    [BenchmarkCategory("refuse, due within 32 ms"), Benchmark(Baseline = true, Description = "TokenBucketRateLimiter.AttemptAcquire", OperationsPerInvoke = Calls)]
    public void FrameworkNear() => Attempt(TheirsNear);

    [BenchmarkCategory("refuse, due within 32 ms"), Benchmark(Description = "TokenBucketLimiter.TryAcquire", OperationsPerInvoke = Calls)]
    public void ToolkitNear() => TryAcquire(OursNear);

    [BenchmarkCategory("refuse, due within 32 ms, 2 threads"), Benchmark(Baseline = true, Description = "TokenBucketRateLimiter.AttemptAcquire", OperationsPerInvoke = 2 * Calls)]
    public void FrameworkNear2() => Threads.Run(() => Attempt(TheirsNear));

    [BenchmarkCategory("refuse, due within 32 ms, 2 threads"), Benchmark(Description = "TokenBucketLimiter.TryAcquire", OperationsPerInvoke = 2 * Calls)]
    public void ToolkitNear2() => Threads.Run(() => TryAcquire(OursNear));

    private static void Attempt(RateLimiter limiter)
    {
        for (int i = 0; i < Calls; i++)
        {
            limiter.AttemptAcquire().Dispose();
        }
    }

    private static void TryAcquire(TokenBucketLimiter limiter)
    {
        for (int i = 0; i < Calls; i++)
        {
            limiter.TryAcquire(1, out _);
        }
    }

    private static TokenBucketLimiter New(RateLimit limit)
    {
        TokenBucketLimiterOptions options = new();
        options.Limits.Add(limit);
        return new TokenBucketLimiter(options);
    }

    private static TLimiter Spent<TLimiter>(TLimiter limiter)
        where TLimiter : RateLimiter
    {
        limiter.AttemptAcquire();
        return limiter;
    }
}
