using BenchmarkDotNet.Attributes;
using Polly;
using Polly.Retry;

namespace Backend.Toolkit.RetryPolicies.Benchmarks;

/// <summary>
/// A call whose first attempt succeeds: Polly's generic pipeline against ours without a budget, with its own (tokens, the default) and with a shared
/// ratio. All: 3 attempts, exponential from 200 ms to 10 s, jitter, nobody listening. Polly has no budget.
/// </summary>
public class RetryBenchmarks
{
    private const int Calls = 20_000;

    private readonly ResiliencePipeline<int> _polly = new ResiliencePipelineBuilder<int>()
        .AddRetry(new RetryStrategyOptions<int>
        {
            MaxRetryAttempts = 2,
            BackoffType = DelayBackoffType.Exponential,
            Delay = TimeSpan.FromMilliseconds(200),
            MaxDelay = TimeSpan.FromSeconds(10),
            UseJitter = true,
        })
        .Build();

    private readonly RetryPolicy _noBudget = new(new RetryPolicyOptions { Budget = RetryBudget.Unlimited });
    private readonly RetryPolicy _tokens = new(new RetryPolicyOptions());
    private readonly RetryPolicy _ratio = new(new RetryPolicyOptions { Budget = new RetryBudget(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio }) });
    private readonly TwoThreads _threads = new();

    [GlobalCleanup]
    public void Cleanup() => _threads.Dispose();

    [Benchmark(Baseline = true), BenchmarkCategory("completes at once")]
    public ValueTask<int> Polly() => _polly.ExecuteAsync(static (state, _) => new ValueTask<int>(state), 1);

    [Benchmark, BenchmarkCategory("completes at once")]
    public ValueTask<int> ToolkitNoBudget() => _noBudget.ExecuteAsync(static (state, _) => new ValueTask<int>(state), 1);

    [Benchmark, BenchmarkCategory("completes at once")]
    public ValueTask<int> ToolkitTokens() => _tokens.ExecuteAsync(static (state, _) => new ValueTask<int>(state), 1);

    [Benchmark, BenchmarkCategory("completes at once")]
    public ValueTask<int> ToolkitRatio() => _ratio.ExecuteAsync(static (state, _) => new ValueTask<int>(state), 1);

    [Benchmark, BenchmarkCategory("completes at once")]
    public ValueTask<int> ToolkitTokensWithAttempt() => _tokens.ExecuteAsync(static (state, _, _) => new ValueTask<int>(state), 1);

    [Benchmark(Baseline = true), BenchmarkCategory("really awaits")]
    public async Task<int> PollyAwaits() => await _polly.ExecuteAsync(static (state, _) => Yield(state), 1);

    [Benchmark, BenchmarkCategory("really awaits")]
    public async Task<int> ToolkitNoBudgetAwaits() => await _noBudget.ExecuteAsync(static (state, _) => Yield(state), 1);

    [Benchmark, BenchmarkCategory("really awaits")]
    public async Task<int> ToolkitTokensAwaits() => await _tokens.ExecuteAsync(static (state, _) => Yield(state), 1);

    [Benchmark, BenchmarkCategory("really awaits")]
    public async Task<int> ToolkitRatioAwaits() => await _ratio.ExecuteAsync(static (state, _) => Yield(state), 1);

    [Benchmark, BenchmarkCategory("really awaits")]
    public async Task<int> BareAwaits() => await Yield(1);

    [Benchmark(Baseline = true, OperationsPerInvoke = Calls), BenchmarkCategory("two threads")]
    public void PollyTwoThreads() => _threads.Run(() =>
    {
        for (int i = 0; i < Calls; i++)
        {
            _ = _polly.ExecuteAsync(static (state, _) => new ValueTask<int>(state), i).Result;
        }
    });

    [Benchmark(OperationsPerInvoke = Calls), BenchmarkCategory("two threads")]
    public void ToolkitNoBudgetTwoThreads() => _threads.Run(() => Repeat(_noBudget));

    [Benchmark(OperationsPerInvoke = Calls), BenchmarkCategory("two threads")]
    public void ToolkitTokensTwoThreads() => _threads.Run(() => Repeat(_tokens));

    [Benchmark(OperationsPerInvoke = Calls), BenchmarkCategory("two threads")]
    public void ToolkitRatioTwoThreads() => _threads.Run(() => Repeat(_ratio));

    private static void Repeat(RetryPolicy policy)
    {
        for (int i = 0; i < Calls; i++)
        {
            _ = policy.ExecuteAsync(static (state, _) => new ValueTask<int>(state), i).Result;
        }
    }

    private static async ValueTask<int> Yield(int state)
    {
        await Task.Yield();
        return state;
    }
}
