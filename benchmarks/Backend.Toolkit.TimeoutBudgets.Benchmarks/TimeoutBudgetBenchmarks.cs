using Backend.Toolkit.TimeoutBudgets;
using BenchmarkDotNet.Attributes;
using Polly;

/// <summary>
/// A timeout of 30 s that does not expire, around an action that completes at once and one that really awaits. Polly's pipeline has no
/// ambient budget and ours always has: it does the smaller work. Nobody listens to metrics, no telemetry is attached to either.
/// </summary>
[GroupBenchmarksBy(BenchmarkDotNet.Configs.BenchmarkLogicalGroupRule.ByCategory)]
public class TimeoutBudgetBenchmarks : IDisposable
{
    private const int LoopsPerThread = 4096;

    private static readonly Func<int, CancellationToken, ValueTask<int>> AtOnce = static (state, _) => new ValueTask<int>(state);

    private static readonly Func<int, CancellationToken, ValueTask<int>> Yielding = static async (state, _) =>
    {
        await Task.Yield();
        return state;
    };

    private readonly TimeoutBudgetPolicy _policy = new(new TimeoutBudgetOptions { Name = "bench", Total = TimeSpan.FromSeconds(30) });
    private readonly TimeoutBudgetPolicy _longer = new(new TimeoutBudgetOptions { Name = "longer", Total = TimeSpan.FromSeconds(60) });
    private readonly ResiliencePipeline<int> _pipeline = new ResiliencePipelineBuilder<int>().AddTimeout(TimeSpan.FromSeconds(30)).Build();
    private readonly ResiliencePipeline<int> _nestedPipeline =
        new ResiliencePipelineBuilder<int>().AddTimeout(TimeSpan.FromSeconds(30)).AddTimeout(TimeSpan.FromSeconds(60)).Build();

    private readonly CancellationTokenSource _caller = new();
    private readonly Func<int, CancellationToken, ValueTask<int>> _longerAtOnce;
    private readonly Action _pollyLoop;
    private readonly Action _ourLoop;
    private TwoThreads? _threads;

    public TimeoutBudgetBenchmarks()
    {
        _longerAtOnce = (state, token) => _longer.ExecuteAsync(AtOnce, state, token);
        _pollyLoop = () =>
        {
            for (int i = 0; i < LoopsPerThread; i++)
            {
                _ = _pipeline.ExecuteAsync(AtOnce, 42).Result;
            }
        };
        _ourLoop = () =>
        {
            for (int i = 0; i < LoopsPerThread; i++)
            {
                _ = _policy.ExecuteAsync(AtOnce, 42).Result;
            }
        };
    }

    [GlobalSetup(Targets = [nameof(PollyOnTwoThreads), nameof(OursOnTwoThreads)])]
    public void StartThreads() => _threads = new TwoThreads();

    [GlobalCleanup(Targets = [nameof(PollyOnTwoThreads), nameof(OursOnTwoThreads)])]
    public void Dispose()
    {
        _threads?.Dispose();
        _caller.Dispose();
        GC.SuppressFinalize(this);
    }

    [Benchmark(Baseline = true, Description = "Polly"), BenchmarkCategory("at once")]
    public int Polly() => _pipeline.ExecuteAsync(AtOnce, 42).Result;

    [Benchmark(Description = "TimeoutBudgetPolicy"), BenchmarkCategory("at once")]
    public int Ours() => _policy.ExecuteAsync(AtOnce, 42).Result;

    [Benchmark(Baseline = true, Description = "Polly"), BenchmarkCategory("at once, caller can cancel")]
    public int PollyWithToken() => _pipeline.ExecuteAsync(AtOnce, 42, _caller.Token).Result;

    [Benchmark(Description = "TimeoutBudgetPolicy"), BenchmarkCategory("at once, caller can cancel")]
    public int OursWithToken() => _policy.ExecuteAsync(AtOnce, 42, _caller.Token).Result;

    [Benchmark(Baseline = true, Description = "Polly"), BenchmarkCategory("at once, inside one that ends sooner")]
    public int PollyNested() => _nestedPipeline.ExecuteAsync(AtOnce, 42).Result;

    [Benchmark(Description = "TimeoutBudgetPolicy"), BenchmarkCategory("at once, inside one that ends sooner")]
    public int OursNested() => _policy.ExecuteAsync(_longerAtOnce, 42).Result;

    [Benchmark(Baseline = true, OperationsPerInvoke = 2 * LoopsPerThread, Description = "Polly"), BenchmarkCategory("at once, two threads")]
    public void PollyOnTwoThreads() => _threads!.Run(_pollyLoop);

    [Benchmark(OperationsPerInvoke = 2 * LoopsPerThread, Description = "TimeoutBudgetPolicy"), BenchmarkCategory("at once, two threads")]
    public void OursOnTwoThreads() => _threads!.Run(_ourLoop);

    [Benchmark(Baseline = true, Description = "Polly"), BenchmarkCategory("really awaiting")]
    public async Task<int> PollyYielding() => await _pipeline.ExecuteAsync(Yielding, 42).ConfigureAwait(false);

    [Benchmark(Description = "TimeoutBudgetPolicy"), BenchmarkCategory("really awaiting")]
    public async Task<int> OursYielding() => await _policy.ExecuteAsync(Yielding, 42).ConfigureAwait(false);
}
