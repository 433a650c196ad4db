using System.Diagnostics;
using System.Diagnostics.Metrics;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.TimeoutBudgets;

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

/// <summary>The meter and the activity source <c>Backend.Toolkit.Http</c>. Labels: the name of the policy, and how the call ended.</summary>
internal static class Telemetry
{
    private const string Source = "Backend.Toolkit.Http";
    private const string AttemptOutcome = "backend.toolkit.http.outcome";

    private static Meter Meter { get; } = new(Source);

    private static ActivitySource Activities { get; } = new(Source);

    private static Counter<long> Calls { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.http.calls", "{call}", "Calls that ended, all their attempts together, by outcome.");

    public static bool IsListening => Calls.Enabled;

    public static bool IsTracing => Activities.HasListeners();

    /// <summary>The span of an attempt, whether it can be made or not. It becomes the current one.</summary>
    public static Activity? StartAttempt(string name, OutboundCall call, TimeSpan delay)
    {
        try
        {
            Activity? activity = Activities.StartActivity("http attempt");
            activity?.SetTag("backend.toolkit.http.name", name)
                .SetTag("backend.toolkit.http.attempt", call.Attempts + 1)
                .SetTag("backend.toolkit.http.delay_ms", delay.TotalMilliseconds)
                .SetTag("backend.toolkit.http.left_ms", call.TimeLeft()?.TotalMilliseconds)
                .SetTag("http.request.method", call.Method.Method)
                .SetTag("server.address", call.Authority?.Host)
                .SetTag("server.port", call.Authority?.Port);
            return activity;
        }
        catch (Exception)
        {
            // As below.
            return null;
        }
    }

    /// <summary>No attempt was made.</summary>
    public static void Refused(Activity? attempt, string outcome) => attempt?.SetTag(AttemptOutcome, outcome);

    public static void TellCircuit(Activity attempt, CircuitState state) => attempt.SetTag("backend.toolkit.http.circuit", state switch
    {
        CircuitState.Closed => "closed",
        CircuitState.Open => "open",
        CircuitState.HalfOpen => "half-open",
        _ => "isolated",
    });

    /// <param name="attempt">The span.</param>
    /// <param name="call">The call, after the attempt.</param>
    /// <param name="thrown">What the attempt ended with, when it ends the call.</param>
    public static void EndAttempt(Activity attempt, OutboundCall call, Exception? thrown)
    {
        try
        {
            string? outcome = (string?)attempt.GetTagItem(AttemptOutcome);
            if (outcome is null)
            {
                Exception? error = thrown ?? call.Error?.SourceException;
                outcome = error switch
                {
                    null => call.IsWorthRetry ? "failed" : "answered",
                    _ when call.CallerToken.IsCancellationRequested || OutboundCall.IsAmbientOver => "cancelled",
                    TimeoutBudgetExceededException => "timed-out",
                    _ => "failed",
                };
                attempt.SetTag(AttemptOutcome, outcome)
                    .SetTag("error.type", error?.GetType().FullName)
                    .SetTag("http.response.status_code", error is null ? (int?)call.Response?.StatusCode : null);
            }

            attempt.SetStatus(outcome is "answered" or "cancelled" ? ActivityStatusCode.Unset : ActivityStatusCode.Error);
            attempt.Dispose();
        }
        catch (Exception)
        {
            // As below.
        }
    }

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
