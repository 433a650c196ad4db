using System.Globalization;
using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

/// <summary>
/// Reads the headers, turns away what comes too late, runs the rest inside a <see cref="RequestBudget"/>, and lets that answer in place of a handler that is late.
/// Thread-safe. Cost: that of one <see cref="TimeoutBudget"/> and one object; a small writer when the handler writes under a deadline; a
/// registration when it does not complete at once.
/// </summary>
internal sealed class TimeoutBudgetMiddleware(RequestDelegate next, BudgetsInForce inForce)
{
    public const string BudgetHeader = "Timeout-Budget";
    public const string EnvoyHeader = "x-envoy-expected-rq-timeout-ms";
    public const string NoRetryHeader = "No-Retry";

    public async Task InvokeAsync(HttpContext context)
    {
        EndpointBudget? endpoint = context.GetEndpoint()?.Metadata.GetMetadata<EndpointBudget>();
        if (context.Features.Get<RequestBudget>() is { } outer)
        {
            // The application uses the middleware twice; by now the endpoint may be known.
            outer.Shorten(endpoint);
            await next(context).ConfigureAwait(false);
            return;
        }

        BudgetsInForce.Settings settings = inForce.Current;
        TimeSpan? given = ReadHeaders(context.Request.Headers, settings);
        Telemetry.Given(given);
        if (given < settings.MinimumBudget || given == TimeSpan.Zero)
        {
            await RejectAsync(context, given.Value, settings).ConfigureAwait(false);
            return;
        }

        TimeSpan maximum = endpoint?.Maximum ?? settings.Maximum;
        TimeSpan total = given is { } time && (time < maximum || maximum == Timeout.InfiniteTimeSpan) ? time : maximum;
        var budget = new RequestBudget(context, TimeoutBudget.Start(total, settings.Name, inForce.TimeProvider, context.RequestAborted), endpoint, inForce.TimeProvider);
        try
        {
            Task pending = next(context);
            if (!pending.IsCompleted)
            {
                budget.Watch();
            }

            await pending.ConfigureAwait(false);
            budget.Settle(null);
        }
        catch (Exception exception) when (budget.Settle(exception))
        {
        }
        finally
        {
            budget.End();
        }

        await budget.AnswerAsync().ConfigureAwait(false);
    }

    private static TimeSpan? ReadHeaders(IHeaderDictionary headers, BudgetsInForce.Settings settings)
    {
        TimeSpan? least = ReadHeader(headers, BudgetHeader, settings.Name);
        return settings.ReadEnvoyTimeout && ReadHeader(headers, EnvoyHeader, settings.Name) is { } envoy && !(least < envoy) ? envoy : least;
    }

    private static TimeSpan? ReadHeader(IHeaderDictionary headers, string header, string name)
    {
        if (!headers.TryGetValue(header, out var lines) || lines.Count == 0)
        {
            return null;
        }

        if (HeaderBudget.TryParse(lines, out TimeSpan budget))
        {
            return budget;
        }

        Telemetry.InvalidHeader(name, header);
        return null;
    }

    private static Task RejectAsync(HttpContext context, TimeSpan given, BudgetsInForce.Settings settings)
    {
        Telemetry.Rejected(settings.Name);
        context.Response.Headers[NoRetryHeader] = "1";
        return new ProblemAnswer(StatusCodes.Status503ServiceUnavailable, "Service Unavailable", "15.6.4", string.Create(
            CultureInfo.InvariantCulture,
            $"The request arrived with {given.TotalMilliseconds} ms of its timeout budget left, which is too little to answer it in time.")).WriteAsync(context);
    }
}
