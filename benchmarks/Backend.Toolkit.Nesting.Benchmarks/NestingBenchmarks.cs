using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.RetryPolicies;
using Backend.Toolkit.TimeoutBudgets;
using BenchmarkDotNet.Attributes;
using Polly;
using Polly.CircuitBreaker;
using Polly.Retry;
using Polly.Timeout;

namespace Backend.Toolkit.Nesting.Benchmarks;

/// <summary>Timeout around retry around circuit breaker, as one pipeline of Polly and as nested calls with the state overloads.</summary>
public class NestingBenchmarks
{
    private const int Calls = 10_000;

    private readonly ResiliencePipeline<int> _polly = new ResiliencePipelineBuilder<int>()
        .AddTimeout(new TimeoutStrategyOptions { Timeout = TimeSpan.FromSeconds(30) })
        .AddRetry(new RetryStrategyOptions<int>
        {
            MaxRetryAttempts = 2,
            BackoffType = DelayBackoffType.Exponential,
            Delay = TimeSpan.FromMilliseconds(200),
            UseJitter = true,
        })
        .AddCircuitBreaker(new CircuitBreakerStrategyOptions<int>
        {
            FailureRatio = 0.5,
            MinimumThroughput = 20,
            SamplingDuration = TimeSpan.FromSeconds(30),
            BreakDuration = TimeSpan.FromSeconds(5),
        })
        .Build();

    private readonly TimeoutBudgetPolicy _budget = new(new TimeoutBudgetOptions { Total = TimeSpan.FromSeconds(30) });
    private readonly RetryPolicy _retry = new(new RetryPolicyOptions());
    private readonly CircuitBreaker _breaker = new(new CircuitBreakerOptions());
    private readonly TwoThreads _threads = new();

    [GlobalCleanup]
    public void Cleanup() => _threads.Dispose();

    [Benchmark(Baseline = true), BenchmarkCategory("completes at once")]
    public ValueTask<int> Polly() => _polly.ExecuteAsync(static (state, _) => new ValueTask<int>(state), 1);

    [Benchmark, BenchmarkCategory("completes at once")]
    public ValueTask<int> Toolkit() => Nested(1);

    [Benchmark(Baseline = true), BenchmarkCategory("really awaits")]
    public int PollyAwaits()
    {
        var answer = new TaskCompletionSource<int>();
        ValueTask<int> pending = _polly.ExecuteAsync(static (answer, _) => new ValueTask<int>(answer.Task), answer);
        answer.SetResult(1);
        return pending.GetAwaiter().GetResult();
    }

    [Benchmark, BenchmarkCategory("really awaits")]
    public int ToolkitAwaits()
    {
        var answer = new TaskCompletionSource<int>();
        ValueTask<int> pending = _budget.ExecuteAsync(
            static (call, token) => call.Self._retry.ExecuteAsync(
                static (call, token) => call.Self._breaker.ExecuteAsync(static (call, _) => new ValueTask<int>(call.Answer.Task), call, token), call, token),
            (Self: this, Answer: answer));
        answer.SetResult(1);
        return pending.GetAwaiter().GetResult();
    }

    [Benchmark(Baseline = true), BenchmarkCategory("really awaits, over the thread pool")]
    public async Task<int> PollyYields() => await _polly.ExecuteAsync(static (state, _) => Yield(state), 1);

    [Benchmark, BenchmarkCategory("really awaits, over the thread pool")]
    public async Task<int> ToolkitYields() => await _budget.ExecuteAsync(
        static (self, token) => self._retry.ExecuteAsync(
            static (self, token) => self._breaker.ExecuteAsync(static (_, _) => Yield(1), self, token), self, token),
        this);

    [Benchmark, BenchmarkCategory("really awaits, over the thread pool")]
    public async Task<int> BareYields() => await Yield(1);

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
            _ = Nested(i).Result;
        }
    });

    private ValueTask<int> Nested(int value) => _budget.ExecuteAsync(
        static (call, token) => call.Self._retry.ExecuteAsync(
            static (call, token) => call.Self._breaker.ExecuteAsync(static (call, _) => new ValueTask<int>(call.Value), call, token), call, token),
        (Self: this, Value: value));

    private static async ValueTask<int> Yield(int state)
    {
        await Task.Yield();
        return state;
    }
}
