using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;

namespace Backend.Toolkit.RetryPolicies;

/// <summary>The meter <c>Backend.Toolkit.RetryPolicies</c>. Labels: the name of the policy or budget, and why a call was given up.</summary>
internal static class Telemetry
{
    private static Meter Meter { get; } = new("Backend.Toolkit.RetryPolicies");

    private static Counter<long> Retries { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.retry.retries", "{retry}", "Attempts after the first.");

    private static Counter<long> GivenUp { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.retry.given_up", "{call}", "Calls that ended without success, by reason.");

    private static Histogram<int> Attempts { get; } = Meter.CreateHistogram<int>(
        "backend.toolkit.retry.attempts", "{attempt}", "Attempts that a call took, however it ended.");

    /// <summary>Named budgets, as long as somebody else holds them.</summary>
    private static ConditionalWeakTable<RetryBudget, object?> Budgets { get; } = [];

    private static ObservableGauge<double> Tokens { get; } = Meter.CreateObservableGauge(
        "backend.toolkit.retry.budget.tokens", Measure, "{token}", "Tokens left, or retries that the ratio allows now.");

    public static void Register(RetryBudget budget) => Budgets.Add(budget, null);

    public static void Retried(string name)
    {
        if (Retries.Enabled)
        {
            Add(Retries, Tag("name", name));
        }
    }

    public static void Succeeded(string name, int attempts)
    {
        if (Attempts.Enabled)
        {
            try
            {
                Attempts.Record(attempts, Tag("name", name));
            }
            catch (Exception)
            {
                // As below.
            }
        }
    }

    public static void Stopped(string name, int attempts, Verdict reason)
    {
        Succeeded(name, attempts);
        if (GivenUp.Enabled)
        {
            Add(GivenUp, Tag("name", name), Tag("reason", Text(reason)));
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

    private static string Text(Verdict reason) => reason switch
    {
        Verdict.Cancelled => "cancelled",
        Verdict.NotRetryable => "not_retryable",
        Verdict.OutOfAttempts => "attempts",
        Verdict.ToldNever => "hint",
        Verdict.DeadlineTooNear => "deadline",
        _ => "budget",
    };

    private static KeyValuePair<string, object?> Tag(string key, object value) => new(key, value);

    private static IEnumerable<Measurement<double>> Measure()
    {
        foreach ((RetryBudget budget, _) in Budgets)
        {
            yield return new Measurement<double>(budget.Tokens, Tag("name", budget.Name));
        }
    }
}
