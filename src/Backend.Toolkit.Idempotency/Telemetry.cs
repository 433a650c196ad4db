using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;

namespace Backend.Toolkit.Idempotency;

/// <summary>The meter <c>Backend.Toolkit.Idempotency</c>. Labels: the name of the executor or store, and what came of it.</summary>
internal static class Telemetry
{
    private static Meter Meter { get; } = new("Backend.Toolkit.Idempotency");

    private static Counter<long> Begun { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.idempotency.begun", "{operation}", "Operations with a key, by what was found under it.");

    private static Counter<long> Ended { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.idempotency.ended", "{operation}", "Operations that ran, by what was recorded of them.");

    private static Counter<long> LeasesLost { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.idempotency.leases_lost", "{lease}", "Runs that outlived their lease.");

    private static Counter<long> StoreFailures { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.idempotency.store_failures", "{call}", "Calls of the store that failed.");

    /// <summary>Named stores, as long as somebody else holds them.</summary>
    private static ConditionalWeakTable<MemoryIdempotencyStore, object?> Stores { get; } = [];

    private static ObservableGauge<int> Records { get; } = Meter.CreateObservableGauge(
        "backend.toolkit.idempotency.records", Measure, "{record}", "Records in a store in memory.");

    public static void Register(MemoryIdempotencyStore store) => Stores.Add(store, null);

    public static void Began(string name, IdempotencyStatus status)
    {
        if (Begun.Enabled)
        {
            Add(Begun, Tag("name", name), Tag("result", status switch
            {
                IdempotencyStatus.Started => "started",
                IdempotencyStatus.Unprotected => "unprotected",
                IdempotencyStatus.InProgress => "in_progress",
                IdempotencyStatus.Completed => "completed",
                IdempotencyStatus.Mismatch => "mismatch",
                _ => "key_expired",
            }));
        }
    }

    public static void End(string name, string result)
    {
        if (Ended.Enabled)
        {
            Add(Ended, Tag("name", name), Tag("result", result));
        }
    }

    public static void LostLease(string name)
    {
        if (LeasesLost.Enabled)
        {
            Add(LeasesLost, Tag("name", name));
        }
    }

    public static void StoreFailed(string name)
    {
        if (StoreFailures.Enabled)
        {
            Add(StoreFailures, Tag("name", name));
        }
    }

    /// <summary>A listener that throws must not replace the outcome of the call.</summary>
    private static void Add(Counter<long> counter, params ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        try
        {
            counter.Add(1, tags);
        }
        catch (Exception)
        {
            // Nobody but the listener can mend it.
        }
    }

    private static KeyValuePair<string, object?> Tag(string key, object value) => new(key, value);

    private static IEnumerable<Measurement<int>> Measure()
    {
        foreach ((MemoryIdempotencyStore store, _) in Stores)
        {
            yield return new Measurement<int>(store.Count, Tag("name", store.Name));
        }
    }
}
