using System.Diagnostics.Metrics;
using BenchmarkDotNet.Attributes;

namespace Backend.Toolkit.Nesting.Benchmarks;

/// <summary>What an instrument costs a call while nobody listens: the guard that every instrument of the packages stands behind. A thousand a time.</summary>
public class NobodyListeningBenchmarks
{
    private const int Calls = 1_000;

    private static readonly Counter<long> Counter = new Meter("Backend.Toolkit.Benchmarks").CreateCounter<long>("nobody.listens");

    private int _sum;

    [Benchmark(Baseline = true, OperationsPerInvoke = Calls)]
    public int Loop()
    {
        for (int i = 0; i < Calls; i++)
        {
            _sum += i;
        }

        return _sum;
    }

    [Benchmark(OperationsPerInvoke = Calls)]
    public int LoopWithGuardedInstrument()
    {
        for (int i = 0; i < Calls; i++)
        {
            _sum += i;
            if (Counter.Enabled)
            {
                Counter.Add(1, new KeyValuePair<string, object?>("name", "benchmark"));
            }
        }

        return _sum;
    }
}
