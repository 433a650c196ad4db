using System.Diagnostics.Metrics;

namespace Backend.Toolkit.RateLimiting;

/// <summary>The meter <c>Backend.Toolkit.RateLimiting</c>. Labels: the name of the limiter, and what became of the request; never a key.</summary>
internal static class Telemetry
{
    private static Meter Meter { get; } = new("Backend.Toolkit.RateLimiting");

    private static Counter<long> Requests { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.ratelimit.requests", "{request}", "Requests, by result: admitted, refused, or what shadow mode would have refused.");

    private static UpDownCounter<long> Waiting { get; } = Meter.CreateUpDownCounter<long>(
        "backend.toolkit.ratelimit.waiting", "{request}", "Requests that wait.");

    private static Counter<long> Evictions { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.ratelimit.evictions", "{key}", "Keys in use that were forgotten, since the table was full.");

    public static bool CountsRequests => Requests.Enabled;

    public static void Decided(string name, in RateLimitDecision decision) =>
        Add(Requests, 1, new("name", name), new("result", decision.IsShadowRefusal ? "shadow_refused" : decision.IsAdmitted ? "admitted" : "refused"));

    public static void Waits(string name, int change)
    {
        if (Waiting.Enabled)
        {
            try
            {
                Waiting.Add(change, new KeyValuePair<string, object?>("name", name));
            }
            catch (Exception)
            {
                // As below.
            }
        }
    }

    public static void Evicted(string name)
    {
        if (Evictions.Enabled)
        {
            Add(Evictions, 1, new KeyValuePair<string, object?>("name", name));
        }
    }

    /// <summary>A listener that throws must not replace the outcome of the call.</summary>
    private static void Add(Counter<long> counter, long value, params ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        try
        {
            counter.Add(value, tags);
        }
        catch (Exception)
        {
            // Nobody but the listener can mend it.
        }
    }
}
