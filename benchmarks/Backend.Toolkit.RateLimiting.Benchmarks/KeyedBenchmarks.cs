using System.Threading.RateLimiting;
using Backend.Toolkit.RateLimiting;
using BenchmarkDotNet.Attributes;

/// <summary>Keyed limiters whose keys are texts: the framework's partitions, and both faces of ours.</summary>
public class KeyedBenchmarks
{
    private const int Calls = 1000;

    private static readonly string[] Keys = [.. Enumerable.Range(0, 100_000).Select(i => $"tenant-{i}")];
    private static readonly string[] RandomKeys = [.. Enumerable.Range(0, 1 << 17).Select(_ => Keys[Random.Shared.Next(Keys.Length)])];
    private static readonly PartitionedRateLimiter<string> Theirs = PartitionedRateLimiter.Create<string, string>(key => RateLimitPartition.GetTokenBucketLimiter(key, static _ => new TokenBucketRateLimiterOptions
    {
        TokenLimit = int.MaxValue,
        TokensPerPeriod = int.MaxValue,
        ReplenishmentPeriod = TimeSpan.FromSeconds(1),
    }));

    private static readonly KeyedTokenBucketLimiter<string> Ours = New();
    private static readonly TwoThreads Threads = new();

    [ThreadStatic]
    private static int _next;

    [BenchmarkCategory("one hot key"), Benchmark(Baseline = true, Description = "PartitionedRateLimiter.AttemptAcquire", OperationsPerInvoke = Calls)]
    public void FrameworkHot() => Attempt(Theirs, random: false);

    [BenchmarkCategory("one hot key"), Benchmark(Description = "KeyedTokenBucketLimiter.TryAcquire", OperationsPerInvoke = Calls)]
    public void ToolkitHot() => TryAcquire(random: false);

    [BenchmarkCategory("one hot key"), Benchmark(Description = "KeyedTokenBucketLimiter.AttemptAcquire", OperationsPerInvoke = Calls)]
    public void ToolkitHotAbstract() => Attempt(Ours, random: false);

    [BenchmarkCategory("one hot key, 2 threads"), Benchmark(Baseline = true, Description = "PartitionedRateLimiter.AttemptAcquire", OperationsPerInvoke = 2 * Calls)]
    public void FrameworkHot2() => Threads.Run(() => Attempt(Theirs, random: false));

    [BenchmarkCategory("one hot key, 2 threads"), Benchmark(Description = "KeyedTokenBucketLimiter.TryAcquire", OperationsPerInvoke = 2 * Calls)]
    public void ToolkitHot2() => Threads.Run(() => TryAcquire(random: false));

    [BenchmarkCategory("one hot key, 2 threads"), Benchmark(Description = "KeyedTokenBucketLimiter.AttemptAcquire", OperationsPerInvoke = 2 * Calls)]
    public void ToolkitHotAbstract2() => Threads.Run(() => Attempt(Ours, random: false));

    [BenchmarkCategory("100 000 random keys"), Benchmark(Baseline = true, Description = "PartitionedRateLimiter.AttemptAcquire", OperationsPerInvoke = Calls)]
    public void FrameworkRandom() => Attempt(Theirs, random: true);

    [BenchmarkCategory("100 000 random keys"), Benchmark(Description = "KeyedTokenBucketLimiter.TryAcquire", OperationsPerInvoke = Calls)]
    public void ToolkitRandom() => TryAcquire(random: true);

    [BenchmarkCategory("100 000 random keys, 2 threads"), Benchmark(Baseline = true, Description = "PartitionedRateLimiter.AttemptAcquire", OperationsPerInvoke = 2 * Calls)]
    public void FrameworkRandom2() => Threads.Run(() => Attempt(Theirs, random: true));

    [BenchmarkCategory("100 000 random keys, 2 threads"), Benchmark(Description = "KeyedTokenBucketLimiter.TryAcquire", OperationsPerInvoke = 2 * Calls)]
    public void ToolkitRandom2() => Threads.Run(() => TryAcquire(random: true));

    private static void Attempt(PartitionedRateLimiter<string> limiter, bool random)
    {
        int next = _next;
        for (int i = 0; i < Calls; i++)
        {
            limiter.AttemptAcquire(random ? RandomKeys[next++ & (RandomKeys.Length - 1)] : "tenant-1").Dispose();
        }

        _next = next;
    }

    private static void TryAcquire(bool random)
    {
        int next = _next;
        for (int i = 0; i < Calls; i++)
        {
            Ours.TryAcquire(random ? RandomKeys[next++ & (RandomKeys.Length - 1)] : "tenant-1", 1, out _);
        }

        _next = next;
    }

    /// <summary>All keys stay in use: 100 000 of them in 131 072 slots.</summary>
    private static KeyedTokenBucketLimiter<string> New()
    {
        KeyedTokenBucketLimiterOptions<string> options = new() { KeySelector = key => key, Capacity = 1 << 17 };
        options.Limits.Add(new RateLimit(1_000_000, TimeSpan.FromSeconds(1), int.MaxValue));
        return new KeyedTokenBucketLimiter<string>(options);
    }
}
