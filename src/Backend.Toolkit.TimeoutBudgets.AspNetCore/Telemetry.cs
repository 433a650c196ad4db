using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

/// <summary>
/// The meter <c>Backend.Toolkit.TimeoutBudgets.AspNetCore</c>. Labels: the name of the options, and one of two words. And tags on the span that is current: the server's, unless a middleware before has started one.
/// </summary>
internal static class Telemetry
{
    private static readonly Meter Meter = new("Backend.Toolkit.TimeoutBudgets.AspNetCore");

    private static readonly Counter<long> ExpiredRequests = Meter.CreateCounter<long>(
        "backend.toolkit.timeout_budget.requests.expired", "{request}", "Requests whose budget ran out, by what became of them: answered (504) or aborted.");

    private static readonly Counter<long> RejectedRequests = Meter.CreateCounter<long>(
        "backend.toolkit.timeout_budget.requests.rejected", "{request}", "Requests that arrived with less than MinimumBudget, and were answered 503.");

    private static readonly Counter<long> ClientClosedRequests = Meter.CreateCounter<long>(
        "backend.toolkit.timeout_budget.requests.client_closed", "{request}", "Requests whose client hung up before they were answered (499).");

    private static readonly Counter<long> InvalidHeaders = Meter.CreateCounter<long>(
        "backend.toolkit.timeout_budget.requests.invalid_header", "{request}", "Requests with a header that is not milliseconds, and was ignored, by header.");

    /// <summary>Null when nobody collects its tags: the server makes one for its log, too.</summary>
    private static Activity? Span => Activity.Current is { IsAllDataRequested: true } activity && activity.Source.HasListeners() ? activity : null;

    /// <param name="budget">Null: the caller says nothing.</param>
    public static void Given(TimeSpan? budget)
    {
        if (budget is { } given)
        {
            Span?.SetTag("backend.toolkit.timeout_budget.given_ms", given.TotalMilliseconds);
        }
    }

    /// <param name="budget">What the request had; the innermost.</param>
    /// <param name="outcome">One of a few words.</param>
    public static void Ended(TimeoutBudget budget, string outcome)
    {
        if (Span is not { } span)
        {
            return;
        }

        span.SetTag("backend.toolkit.timeout_budget.outcome", outcome);
        if (budget.Total != TimeSpan.MaxValue)
        {
            span.SetTag("backend.toolkit.timeout_budget.total_ms", budget.Total.TotalMilliseconds).SetTag("backend.toolkit.timeout_budget.left_ms", budget.Remaining.TotalMilliseconds);
        }
    }

    public static void Expired(string name, bool aborted) => Add(ExpiredRequests, name, new("answer", aborted ? "aborted" : "504"));

    public static void Rejected(string name)
    {
        Span?.SetTag("backend.toolkit.timeout_budget.outcome", "rejected");
        Add(RejectedRequests, name);
    }

    public static void ClientClosed(string name) => Add(ClientClosedRequests, name);

    public static void InvalidHeader(string name, string header) => Add(InvalidHeaders, name, new("header", header));

    private static void Add(Counter<long> counter, string name, KeyValuePair<string, object?>? label = null)
    {
        if (!counter.Enabled)
        {
            return;
        }

        try
        {
            if (label is { } second)
            {
                counter.Add(1, new("name", name), second);
            }
            else
            {
                counter.Add(1, new KeyValuePair<string, object?>("name", name));
            }
        }
        catch (Exception)
        {
            // A listener that throws must not replace the outcome of the request.
        }
    }
}
