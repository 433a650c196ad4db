using System.Diagnostics.Metrics;

namespace Backend.Toolkit.Http;

/// <summary>How a call ended.</summary>
internal enum Outcome
{
    Answered,
    GaveUp,
    NotRetried,
    TimedOut,
    CircuitOpen,
    Cancelled,
    Failed,
}

/// <summary>The meter <c>Backend.Toolkit.Http</c>. Labels: the name of the policy, and how the call ended.</summary>
internal static class Telemetry
{
    private static Meter Meter { get; } = new("Backend.Toolkit.Http");

    private static Counter<long> Calls { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.http.calls", "{call}", "Calls that ended, all their attempts together, by outcome.");

    public static bool IsListening => Calls.Enabled;

    public static void Called(string name, Outcome outcome)
    {
        if (!Calls.Enabled)
        {
            return;
        }

        try
        {
            Calls.Add(1, new KeyValuePair<string, object?>("name", name), new KeyValuePair<string, object?>("outcome", Text(outcome)));
        }
        catch (Exception)
        {
            // A listener that throws must not replace the outcome of the call.
        }
    }

    public static string Text(Outcome outcome) => outcome switch
    {
        Outcome.Answered => "answered",
        Outcome.GaveUp => "gave-up",
        Outcome.NotRetried => "not-retried",
        Outcome.TimedOut => "timed-out",
        Outcome.CircuitOpen => "circuit-open",
        Outcome.Cancelled => "cancelled",
        _ => "failed",
    };
}
