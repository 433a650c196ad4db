using System.Diagnostics.Metrics;

namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>The meter <c>Backend.Toolkit.RateLimiting.Redis</c>. Labels: the name of the limiter, what became of it, and who decided; never a key.</summary>
internal static class Telemetry
{
    private static Meter Meter { get; } = new("Backend.Toolkit.RateLimiting.Redis");

    private static Counter<long> Requests { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.ratelimit.redis.requests", "{request}", "Requests, by result (admitted, refused, shadow_refused) and source (store, node, local_bucket, outage).");

    private static Counter<long> Calls { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.ratelimit.redis.calls", "{call}", "Calls to the store, by result: answered, failed, foreign (the key holds something else).");

    private static Counter<long> Transitions { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.ratelimit.redis.transitions", "{transition}", "The store is skipped (down) or asked again (up).");

    public static void Decided(string name, in RateLimitDecision decision, string source)
    {
        if (Requests.Enabled)
        {
            Add(Requests, new("name", name), new("result", decision.IsShadowRefusal ? "shadow_refused" : decision.IsAdmitted ? "admitted" : "refused"), new("source", source));
        }
    }

    public static void Called(string name, string result)
    {
        if (Calls.Enabled)
        {
            Add(Calls, new("name", name), new("result", result));
        }
    }

    public static void Transition(string name, string state)
    {
        if (Transitions.Enabled)
        {
            Add(Transitions, new("name", name), new("state", state));
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
}
