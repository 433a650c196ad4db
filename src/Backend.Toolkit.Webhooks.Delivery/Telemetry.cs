using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>The meter and the activity source <c>Backend.Toolkit.Webhooks.Delivery</c>. Labels: the name and what became of it; never an endpoint or an audience.</summary>
internal static class Telemetry
{
    private const string Source = "Backend.Toolkit.Webhooks.Delivery";

    private static Meter Meter { get; } = new(Source);

    private static ActivitySource Activities { get; } = new(Source);

    private static Counter<long> Enqueues { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.webhooks.delivery.enqueued", "{event}", "Events that were handed to a transaction; it may still have been rolled back.");

    private static Counter<long> Attempts { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.webhooks.delivery.attempts", "{attempt}", "Attempts, by result: delivered, failed, dead (the last one), returned (stopped before its end).");

    private static Histogram<double> Durations { get; } = Meter.CreateHistogram<double>(
        "backend.toolkit.webhooks.delivery.attempt.duration", "s", "How long attempts took.");

    private static Counter<long> Disabled { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.webhooks.delivery.endpoints_disabled", "{endpoint}", "Endpoints that were disabled because they answered 410, or nothing but failures for days.");

    private static Counter<long> StoreFailures { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.webhooks.delivery.store_failures", "{call}", "Calls of the worker that the store failed.");

    private static Gauge<double> OldestDue { get; } = Meter.CreateGauge<double>(
        "backend.toolkit.webhooks.delivery.oldest_due", "s", "How long the oldest due delivery has been due; those of paused and disabled endpoints are not meant.");

    public static bool WantsOldestDue => OldestDue.Enabled;

    public static Activity? StartAttempt(WebhookClaim claim)
    {
        if (!Activities.HasListeners())
        {
            return null;
        }

        ActivityContext.TryParse(claim.Event.TraceParent, null, isRemote: true, out ActivityContext parent);
        Activity? activity = Activities.StartActivity("webhook attempt", ActivityKind.Client, parent);
        activity?.SetTag("backend.toolkit.webhooks.delivery.event_id", claim.Event.Id)
            .SetTag("backend.toolkit.webhooks.delivery.endpoint_id", claim.Endpoint.Id)
            .SetTag("http.request.method", "POST")
            .SetTag("http.request.resend_count", claim.Attempts);
        return activity;
    }

    public static void Enqueued(string name) => Add(Enqueues, new KeyValuePair<string, object?>("name", name));

    public static void Attempted(string name, WebhookOutcome outcome)
    {
        string result = outcome.Attempt is null ? "returned" : outcome.State switch
        {
            WebhookDeliveryState.Delivered => "delivered",
            WebhookDeliveryState.Dead => "dead",
            _ => "failed",
        };
        Add(Attempts, new("name", name), new("result", result));
        if (outcome.Attempt is not null && Durations.Enabled)
        {
            try
            {
                Durations.Record(outcome.Attempt.Duration.TotalSeconds, new("name", name), new KeyValuePair<string, object?>("result", result));
            }
            catch (Exception)
            {
                // Nobody but the listener can mend it.
            }
        }
    }

    public static void EndpointDisabled(string name) => Add(Disabled, new KeyValuePair<string, object?>("name", name));

    public static void StoreFailed(string name) => Add(StoreFailures, new KeyValuePair<string, object?>("name", name));

    public static void DueSince(string name, TimeSpan age)
    {
        try
        {
            OldestDue.Record(age.TotalSeconds, new KeyValuePair<string, object?>("name", name));
        }
        catch (Exception)
        {
            // As above.
        }
    }

    /// <summary>A listener that throws must not replace the outcome of the call.</summary>
    private static void Add(Counter<long> counter, params ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        if (!counter.Enabled)
        {
            return;
        }

        try
        {
            counter.Add(1, tags);
        }
        catch (Exception)
        {
            // As above.
        }
    }
}
