using System.Diagnostics.Metrics;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

/// <summary>The meter <c>Backend.Toolkit.TimeoutBudgets.AspNetCore</c>. Labels: the name of the options, and one of two words.</summary>
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

    public static void Expired(string name, bool aborted) => Add(ExpiredRequests, name, new("answer", aborted ? "aborted" : "504"));

    public static void Rejected(string name) => Add(RejectedRequests, name);

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
