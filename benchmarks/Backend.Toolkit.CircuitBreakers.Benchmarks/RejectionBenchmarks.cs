using BenchmarkDotNet.Attributes;
using Polly;
using Polly.CircuitBreaker;

namespace Backend.Toolkit.CircuitBreakers.Benchmarks;

/// <summary>A call that an open circuit rejects, without an exception being thrown: Polly's outcome against <c>TryEnter</c>.</summary>
public class RejectionBenchmarks
{
    private static readonly TimeSpan Break = TimeSpan.FromDays(1);

    private readonly CircuitBreaker _breaker = new(new CircuitBreakerOptions { ConsecutiveFailures = 1, BreakDuration = Break, MaxBreakDuration = Break });

    private readonly ResiliencePipeline<int> _polly = new ResiliencePipelineBuilder<int>()
        .AddCircuitBreaker(new CircuitBreakerStrategyOptions<int> { MinimumThroughput = 2, BreakDuration = Break })
        .Build();

    [GlobalSetup]
    public async Task Open()
    {
        _breaker.TryEnter(out CircuitPermit permit);
        permit.Failure();
        for (int i = 0; i < 2; i++)
        {
            await Outcome(static (_, _) => new ValueTask<Outcome<int>>(global::Polly.Outcome.FromException<int>(new InvalidOperationException())));
        }

        if (_breaker.State != CircuitState.Open || (await Polly()).Exception is not BrokenCircuitException)
        {
            throw new InvalidOperationException("Both circuits must be open.");
        }
    }

    [Benchmark(Baseline = true)]
    public ValueTask<Outcome<int>> Polly() => Outcome(static (_, _) => new ValueTask<Outcome<int>>(global::Polly.Outcome.FromResult(1)));

    [Benchmark]
    public bool Toolkit() => _breaker.TryEnter(out _);

    private async ValueTask<Outcome<int>> Outcome(Func<ResilienceContext, int, ValueTask<Outcome<int>>> action)
    {
        ResilienceContext context = ResilienceContextPool.Shared.Get();
        Outcome<int> outcome = await _polly.ExecuteOutcomeAsync(action, context, 1);
        ResilienceContextPool.Shared.Return(context);
        return outcome;
    }
}
