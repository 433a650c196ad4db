using System.Reflection;
using System.Security.Cryptography;
using Backend.Toolkit.RateLimiting.AspNetCore;
using Backend.Toolkit.TimeoutBudgets.AspNetCore;
using Microsoft.Net.Http.Headers;

namespace Shop;

/// <summary>Whether the customer is told to fail.</summary>
internal sealed record CustomerTold(bool? Broken);

/// <summary>The page at <c>/</c>, what feeds it, and the controls that it has.</summary>
internal static class Dashboard
{
    private const string Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    public static void Map(WebApplication app)
    {
        MapFile(app, "/", "dashboard.html", "text/html; charset=utf-8");
        MapFile(app, "/dashboard.css", "dashboard.css", "text/css; charset=utf-8");
        MapFile(app, "/dashboard.js", "dashboard.js", "text/javascript; charset=utf-8");
        MapFile(app, "/dashboard.svg", "dashboard.svg", "image/svg+xml");

        // It lives as long as the page that listens, so no budget ends it; the end of the shop does.
        app.MapGet("/events", (DashboardFeed feed, HttpContext context) =>
        {
            if (feed.TryJoin() is not { } seat)
            {
                context.Response.Headers.RetryAfter = "5";
                return Results.Problem(statusCode: StatusCodes.Status503ServiceUnavailable, title: "Too many listen.", detail: $"At most {DashboardFeed.MostListeners} may listen to events at the same time. Close another dashboard, or come back later.");
            }

            context.Response.RegisterForDispose(seat);
            return TypedResults.ServerSentEvents(feed.ReadAsync(context.RequestAborted));
        }).WithSummary("Tells what the dashboard shows, once a second, until either side ends it.").Produces<Sample[]>(StatusCodes.Status200OK, "text/event-stream").Refuses(503)
            .DisableRateLimit().WithTimeoutBudget(Timeout.InfiniteTimeSpan);

        RouteGroupBuilder group = app.MapGroup("/controls").DisableRateLimit().AddEndpointFilter(FromHere.OnlyAsync).ProducesProblem(StatusCodes.Status403Forbidden);
        group.MapPost("/payments", async (Fault fault, Controls controls, CancellationToken cancellationToken) => fault.Problems() is { Count: > 0 } problems
            ? Results.ValidationProblem(problems)
            : await controls.TellPaymentsAsync(fault, cancellationToken))
            .WithSummary("Tells payments what to do wrong.").Produces<Fault>().ProducesValidationProblem().Refuses(502);
        group.MapPost("/customer", async (CustomerTold told, Controls controls, CancellationToken cancellationToken) => told.Broken is { } broken
            ? await controls.TellCustomerAsync(broken, cancellationToken)
            : Results.ValidationProblem(new Dictionary<string, string[]> { ["broken"] = ["broken must be true or false, but is missing."] }))
            .WithSummary("Tells the customer whether to fail.").Produces<bool>().ProducesValidationProblem().Refuses(502);
        group.MapPost("/load", (Load load, LoadRun run) => load.Problems() is { Count: > 0 } problems ? Results.ValidationProblem(problems)
            : run.TryStart(load) ? Results.Accepted(value: run.State)
            : Results.Problem(statusCode: StatusCodes.Status409Conflict, title: "A load runs.", detail: "At most one load may run at a time. Stop it, or wait for its end."))
            .WithSummary("Starts a load of orders.").Produces<LoadState>(StatusCodes.Status202Accepted).ProducesValidationProblem().Refuses(409);
        group.MapDelete("/load", (LoadRun run) => run.TryStop() ? Results.Accepted(value: run.State)
            : Results.Problem(statusCode: StatusCodes.Status409Conflict, title: "No load runs.", detail: "Only a load that runs can be stopped. Start one."))
            .WithSummary("Stops the load.").Produces<LoadState>(StatusCodes.Status202Accepted).Refuses(409);
    }

    private static void MapFile(WebApplication app, string path, string name, string type)
    {
        using Stream resource = Assembly.GetExecutingAssembly().GetManifestResourceStream(name)!;
        byte[] content = new byte[resource.Length];
        resource.ReadExactly(content);
        var tag = new EntityTagHeaderValue($"\"{Convert.ToHexStringLower(SHA256.HashData(content)[..8])}\"");
        app.MapGet(path, (HttpContext context) =>
        {
            IHeaderDictionary headers = context.Response.Headers;
            (headers.ContentSecurityPolicy, headers.XContentTypeOptions, headers["Referrer-Policy"], headers.CacheControl) = (Policy, "nosniff", "no-referrer", "no-cache");
            return Results.Bytes(content, type, entityTag: tag);
        }).DisableRateLimit().ExcludeFromDescription();
    }
}
