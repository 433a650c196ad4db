using Polly;
using Polly.CircuitBreaker;

namespace Backend.Toolkit.CircuitBreakers.Benchmarks;

/// <summary>What one circuit of ten thousand retains, each having served a call: heap after a full collection.</summary>
internal static class BytesPerKey
{
    private const int Keys = 10_000;

    private static readonly string[] Hosts = [.. Enumerable.Range(0, Keys).Select(i => $"host-{i}.example")];

    public static void Print()
    {
        Console.WriteLine($"Toolkit group             {Measure(() => Group(null)),6:0} bytes per key");
        Console.WriteLine($"Toolkit group, slow calls {Measure(() => Group(TimeSpan.FromSeconds(1))),6:0} bytes per key");
        Console.WriteLine($"Polly, one pipeline a key {Measure(Pipelines),6:0} bytes per key");
    }

    private static double Measure(Func<object> make)
    {
        make();
        long before = GC.GetTotalMemory(forceFullCollection: true);
        object kept = make();
        long after = GC.GetTotalMemory(forceFullCollection: true);
        GC.KeepAlive(kept);
        return (after - before) / (double)Keys;
    }

    private static CircuitBreakerGroup<string> Group(TimeSpan? slowCallDuration)
    {
        var group = new CircuitBreakerGroup<string>(new CircuitBreakerGroupOptions { Capacity = Keys, SlowCallDuration = slowCallDuration });
        foreach (string host in Hosts)
        {
            _ = group.For(host).ExecuteAsync(static (state, _) => new ValueTask<int>(state), 1).Result;
        }

        return group;
    }

    private static Dictionary<string, ResiliencePipeline<int>> Pipelines()
    {
        var pipelines = new Dictionary<string, ResiliencePipeline<int>>();
        foreach (string host in Hosts)
        {
            ResiliencePipeline<int> pipeline = new ResiliencePipelineBuilder<int>().AddCircuitBreaker(new CircuitBreakerStrategyOptions<int>()).Build();
            _ = pipeline.ExecuteAsync(static (state, _) => new ValueTask<int>(state), 1).Result;
            pipelines[host] = pipeline;
        }

        return pipelines;
    }
}
