using System.Data.Common;
using System.Globalization;
using System.Text.Encodings.Web;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.RateLimiting.AspNetCore;
using Backend.Toolkit.Webhooks;
using Backend.Toolkit.Webhooks.AspNetCore;
using Backend.Toolkit.Webhooks.Delivery;

namespace Shop;

/// <summary>Where a customer wants to hear of orders, and of which types; all when there are none.</summary>
internal sealed record NewEndpoint(string Url, string[]? Types = null);

/// <summary>An endpoint and its secret, which is told once.</summary>
internal sealed record CreatedEndpoint(string Id, string Url, IReadOnlyList<string> Types, string Secret);

/// <summary>Webhooks, in and out.</summary>
internal static class Webhooks
{
    public static void Map(WebApplication app)
    {
        // Payments has charged: an order whose charge had no answer is paid all the same.
        app.MapPost(PaymentsService.ShopHook, async (Charge charge, OrderStore orders, DbConnection connection, WebhookOutbox outbox, CancellationToken cancellationToken) =>
        {
            if (await orders.FindAsync(charge.OrderId, cancellationToken) is { Status: OrderStatus.Pending } order)
            {
                await connection.OpenAsync(cancellationToken);
                await using DbTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
                await OrderStore.SettleAsync(order, isPaid: true, outbox, transaction, cancellationToken);
                await transaction.CommitAsync(cancellationToken);
            }

            return Results.Ok();
        }).VerifyWebhook("payments").DisableRateLimit().WithSummary("Hears from payments of a charge.").Produces(StatusCodes.Status200OK);

        app.MapPost("/webhooks/endpoints", async (NewEndpoint request, WebhookEndpoints endpoints, CancellationToken cancellationToken) =>
        {
            try
            {
                NewWebhookEndpoint created = await endpoints.CreateAsync(Subscriptions.Audience, request.Url ?? "", request.Types, cancellationToken: cancellationToken);
                return Results.Created("/webhooks", new CreatedEndpoint(created.Endpoint.Id, created.Endpoint.Url, created.Endpoint.Types, created.Secret));
            }
            catch (Exception refused) when (refused is WebhookEndpointRefusedException or ArgumentException)
            {
                return Results.Problem(statusCode: StatusCodes.Status400BadRequest, title: "This endpoint is refused.", detail: refused.Message);
            }
        }).WithSummary("Adds an endpoint that hears of orders.").Produces<CreatedEndpoint>(StatusCodes.Status201Created);
        app.MapPost("/webhooks/{delivery:long}/resend", async (long delivery, WebhookDeliveries deliveries, CancellationToken cancellationToken) =>
            await deliveries.RedriveAsync(delivery, cancellationToken) || await deliveries.ResendAsync(delivery, cancellationToken) ? Results.Redirect("/webhooks")
            : Results.NotFound())
            .AddEndpointFilter(FromHere.OnlyAsync).WithSummary("Sends a webhook again, and leads back to the page.").Produces(StatusCodes.Status302Found).Refuses(403, 404);
        app.MapGet("/webhooks", async (WebhookEndpoints endpoints, WebhookDeliveries deliveries, HttpResponse response, CancellationToken cancellationToken) =>
        {
            response.Headers.ContentSecurityPolicy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
            IReadOnlyList<WebhookEndpoint> all = await endpoints.ListAsync(Subscriptions.Audience, cancellationToken: cancellationToken);
            List<(WebhookDelivery, IReadOnlyList<WebhookAttempt>)> newest = [];
            foreach (WebhookDelivery delivery in await deliveries.ListAsync(new WebhookDeliveryFilter(Audience: Subscriptions.Audience), limit: 20, cancellationToken: cancellationToken))
            {
                newest.Add((delivery, await deliveries.ListAttemptsAsync(delivery.Id, cancellationToken)));
            }

            return Results.Content(Page(all, newest), "text/html; charset=utf-8");
        }).DisableRateLimit().ExcludeFromDescription();
    }

    /// <summary>Shops that share their keys share what they have received, too. A kill forgets nothing, and what is remembered takes no memory.</summary>
    public static WebhookReplayStore Over(IIdempotencyStore store) => new()
    {
        Reserve = async (request, cancellationToken) =>
        {
            IdempotencyClaim claim = await store.BeginAsync(
                new IdempotencyClaimRequest { Key = new(request.Key.ToArray()), Fingerprint = default, Lease = request.Lease, Retention = request.KeepFor }, cancellationToken);
            return claim.Status switch
            {
                IdempotencyClaimStatus.Started => new(WebhookReservationStatus.Reserved, claim.Fence),
                IdempotencyClaimStatus.Completed => new(WebhookReservationStatus.Committed),
                _ => new(WebhookReservationStatus.InProgress, LeaseLeft: claim.LeaseLeft),
            };
        },
        Commit = (key, fence, keepFor, cancellationToken) => store.CompleteAsync(new(key.ToArray()), fence, IdempotencyOutcome.Tombstone(200), keepFor, cancellationToken: cancellationToken),
        Release = (key, fence, cancellationToken) => store.AbandonAsync(new(key.ToArray()), fence, cancellationToken),
    };

    private static string Page(IReadOnlyList<WebhookEndpoint> endpoints, List<(WebhookDelivery Delivery, IReadOnlyList<WebhookAttempt> Attempts)> deliveries) => $$"""
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>Shop: webhooks</title>
        <style>:root { color-scheme: light dark; } body { font: 16px/1.5 system-ui, sans-serif; margin: clamp(.75rem, 4vw, 2rem); } td, th { text-align: left; padding-right: clamp(.5rem, 3vw, 2rem); vertical-align: top; overflow-wrap: anywhere; } form { display: inline; }</style>
        </head>
        <body>
        <h1>Webhooks</h1>
        <h2>Endpoints</h2>
        <table>
        <tr><th scope="col">Endpoint</th><th scope="col">Types</th><th scope="col">State</th></tr>
        {{Lines(endpoints, endpoint => $"<tr><td>{Text(endpoint.Url)}</td><td>{Text(endpoint.Types.Count == 0 ? "all" : string.Join(", ", endpoint.Types))}</td><td>{Text(State(endpoint))}</td></tr>")}}
        </table>
        <h2>Deliveries, newest first</h2>
        <table>
        <tr><th scope="col">Event</th><th scope="col">State</th><th scope="col">Attempts</th><th scope="col"></th></tr>
        {{Lines(deliveries, line => $"""
            <tr><td>{Text(line.Delivery.EventType)}<br>{Text(line.Delivery.EventId)}</td><td>{Text(line.Delivery.State == WebhookDeliveryState.Dead ? $"dead letter: {line.Delivery.DeadReason}" : line.Delivery.State)}</td>
            <td>{string.Join("<br>", line.Attempts.Select(attempt => Text($"{attempt.Status?.ToString(CultureInfo.InvariantCulture) ?? attempt.Error} in {attempt.Duration.TotalMilliseconds:0} ms")))}</td>
            <td>{(line.Delivery.State == WebhookDeliveryState.Pending ? "" : $"""<form method="post" action="/webhooks/{Text(line.Delivery.Id)}/resend"><button>Send again</button></form>""")}</td></tr>
            """)}}
        </table>
        <p><a href="/">Orders</a></p>
        </body>
        </html>
        """;

    private static string State(WebhookEndpoint endpoint) => endpoint.IsEnabled
        ? endpoint.ConsecutiveFailures == 0 ? "well" : string.Create(CultureInfo.InvariantCulture, $"{endpoint.ConsecutiveFailures} failures in a row")
        : $"disabled: {endpoint.DisabledReason}";

    private static string Lines<T>(IEnumerable<T> items, Func<T, string> line) => string.Join('\n', items.Select(line));

    private static string Text(object value) => HtmlEncoder.Default.Encode(Convert.ToString(value, CultureInfo.InvariantCulture) ?? "");
}
