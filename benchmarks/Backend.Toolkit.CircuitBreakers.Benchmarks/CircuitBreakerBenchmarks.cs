using BenchmarkDotNet.Attributes;
using Polly;
using Polly.CircuitBreaker;

namespace Backend.Toolkit.CircuitBreakers.Benchmarks;

/// <summary>A healthy call through a closed circuit: Polly's generic pipeline against ours, with and without slow calls.</summary>
public class CircuitBreakerBenchmarks
{
    private const int Calls = 20_000;

    private readonly ResiliencePipeline<int> _polly = new ResiliencePipelineBuilder<int>()
        .AddCircuitBreaker(new CircuitBreakerStrategyOptions<int>
        {
            FailureRatio = 0.5,
            MinimumThroughput = 20,
            SamplingDuration = TimeSpan.FromSeconds(30),
            BreakDuration = TimeSpan.FromSeconds(5),
        })
        .Build();

    private readonly CircuitBreaker _breaker = new(new CircuitBreakerOptions());
    private readonly CircuitBreaker _slowCalls = new(new CircuitBreakerOptions { SlowCallDuration = TimeSpan.FromSeconds(1) });
    private readonly TwoThreads _threads = new();

    [GlobalCleanup]
    public void Cleanup() => _threads.Dispose();

    [Benchmark(Baseline = true), BenchmarkCategory("completes at once")]
    public ValueTask<int> Polly() => _polly.ExecuteAsync(static (state, _) => new ValueTask<int>(state), 1);

    [Benchmark, BenchmarkCategory("completes at once")]
    public ValueTask<int> Toolkit() => _breaker.ExecuteAsync(static (state, _) => new ValueTask<int>(state), 1);

    [Benchmark, BenchmarkCategory("completes at once")]
    public ValueTask<int> ToolkitSlowCalls() => _slowCalls.ExecuteAsync(static (state, _) => new ValueTask<int>(state), 1);

    [Benchmark, BenchmarkCategory("completes at once")]
    public void ToolkitPermit()
    {
        if (_breaker.TryEnter(out CircuitPermit permit))
        {
            permit.Success();
        }
    }

    [Benchmark(Baseline = true), BenchmarkCategory("really awaits")]
    public int PollyAwaits()
    {
        var answer = new TaskCompletionSource<int>();
        ValueTask<int> pending = _polly.ExecuteAsync(static (answer, _) => new ValueTask<int>(answer.Task), answer);
        answer.SetResult(1);
        return pending.GetAwaiter().GetResult();
    }

    [Benchmark, BenchmarkCategory("really awaits")]
    public int ToolkitAwaits() => Awaits(_breaker);

    [Benchmark, BenchmarkCategory("really awaits")]
    public int ToolkitSlowCallsAwaits() => Awaits(_slowCalls);

    [Benchmark(Baseline = true, OperationsPerInvoke = Calls), BenchmarkCategory("two threads")]
    public void PollyTwoThreads() => _threads.Run(() =>
    {
        for (int i = 0; i < Calls; i++)
        {
            _ = _polly.ExecuteAsync(static (state, _) => new ValueTask<int>(state), i).Result;
        }
    });

    [Benchmark(OperationsPerInvoke = Calls), BenchmarkCategory("two threads")]
    public void ToolkitTwoThreads() => _threads.Run(() =>
    {
        for (int i = 0; i < Calls; i++)
        {
            _ = _breaker.ExecuteAsync(static (state, _) => new ValueTask<int>(state), i).Result;
        }
    });

    [Benchmark(OperationsPerInvoke = Calls), BenchmarkCategory("two threads")]
    public void ToolkitSlowCallsTwoThreads() => _threads.Run(() =>
    {
        for (int i = 0; i < Calls; i++)
        {
            _ = _slowCalls.ExecuteAsync(static (state, _) => new ValueTask<int>(state), i).Result;
        }
    });

    private static int Awaits(CircuitBreaker breaker)
    {
        var answer = new TaskCompletionSource<int>();
        ValueTask<int> pending = breaker.ExecuteAsync(static (answer, _) => new ValueTask<int>(answer.Task), answer);
        answer.SetResult(1);
        return pending.GetAwaiter().GetResult();
    }
}
