using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.CircuitBreakers.Tests;

/// <summary>Measures the whole heap, so nothing else may run meanwhile.</summary>
[CollectionDefinition(nameof(MemoryTests), DisableParallelization = true)]
[Collection(nameof(MemoryTests))]
public sealed class MemoryTests
{
    private readonly FakeTimeProvider _time = new();

    [Theory]
    [InlineData(null, 300)]
    [InlineData(1, 350)]
    public void A_circuit_takes_few_bytes_also_after_an_outage(int? slowSeconds, int limit)
    {
        const int Keys = 2_000;
        var options = new CircuitBreakerGroupOptions
        {
            Capacity = Keys,
            ConsecutiveFailures = 4,
            BreakJitter = 0,
            SlowCallDuration = slowSeconds is { } seconds ? TimeSpan.FromSeconds(seconds) : null,
        };
        using var group = new CircuitBreakerGroup<int>(options, _time);
        long before = GC.GetTotalMemory(forceFullCollection: true);

        for (int key = 0; key < Keys; key++)
        {
            group.For(key).Fail(4);
        }

        _time.Advance(Circuits.Break);
        for (int key = 0; key < Keys; key++)
        {
            group.For(key).Enter().Success();
        }

        ((GC.GetTotalMemory(forceFullCollection: true) - before) / Keys).Should().BeInRange(100, limit);
    }
}
