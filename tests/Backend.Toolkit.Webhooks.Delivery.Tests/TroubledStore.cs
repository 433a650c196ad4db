using System.Data.Common;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

/// <summary>A store to which something happens before a call.</summary>
internal sealed class TroubledStore(IWebhookDeliveryStore store) : IWebhookDeliveryStore
{
    public Action BeforeRecording { get; set; } = static () => { };

    public Action AfterClaiming { get; set; } = static () => { };

    public Action BeforeMaintaining { get; set; } = static () => { };

    public Func<int, int> Maintained { get; set; } = static rows => rows;

    public Action Before { get; set; } = static () => { };

    public Action<int> BeforeFanOut { get; set; } = static _ => { };

    public ValueTask PrepareAsync(CancellationToken cancellationToken = default) => store.PrepareAsync(cancellationToken);

    public ValueTask EnqueueAsync(WebhookEventRow row, DbTransaction? transaction, CancellationToken cancellationToken = default) => store.EnqueueAsync(row, transaction, cancellationToken);

    public ValueTask<int> FanOutAsync(int limit, CancellationToken cancellationToken = default)
    {
        Before();
        BeforeFanOut(limit);
        return store.FanOutAsync(limit, cancellationToken);
    }

    public async ValueTask<IReadOnlyList<WebhookClaim>> ClaimAsync(WebhookClaimRequest request, CancellationToken cancellationToken = default)
    {
        Before();
        IReadOnlyList<WebhookClaim> claims = await store.ClaimAsync(request, cancellationToken);
        AfterClaiming();

        // What a store may do when it has committed.
        cancellationToken.ThrowIfCancellationRequested();
        return claims;
    }

    public ValueTask RecordAsync(IReadOnlyList<WebhookOutcome> outcomes, CancellationToken cancellationToken = default)
    {
        BeforeRecording();
        return store.RecordAsync(outcomes, cancellationToken);
    }

    public async ValueTask<int> MaintainAsync(TimeSpan retention, int limit, CancellationToken cancellationToken = default)
    {
        BeforeMaintaining();
        return Maintained(await store.MaintainAsync(retention, limit, cancellationToken));
    }

    public ValueTask<TimeSpan> OldestDueAsync(CancellationToken cancellationToken = default) => store.OldestDueAsync(cancellationToken);

    public ValueTask InsertEndpointAsync(WebhookEndpointRow row, CancellationToken cancellationToken = default) => store.InsertEndpointAsync(row, cancellationToken);

    public ValueTask<bool> UpdateEndpointAsync(WebhookEndpointRow row, CancellationToken cancellationToken = default) => store.UpdateEndpointAsync(row, cancellationToken);

    public ValueTask<WebhookEndpointRow?> FindEndpointAsync(string endpointId, CancellationToken cancellationToken = default) => store.FindEndpointAsync(endpointId, cancellationToken);

    public ValueTask<IReadOnlyList<WebhookEndpoint>> ListEndpointsAsync(string? audience, string afterId, int limit, CancellationToken cancellationToken = default) => store.ListEndpointsAsync(audience, afterId, limit, cancellationToken);

    public ValueTask<IReadOnlyList<WebhookDelivery>> ListDeliveriesAsync(WebhookDeliveryFilter filter, long? beforeId, int limit, CancellationToken cancellationToken = default) => store.ListDeliveriesAsync(filter, beforeId, limit, cancellationToken);

    public ValueTask<IReadOnlyList<WebhookAttempt>> ListAttemptsAsync(long deliveryId, CancellationToken cancellationToken = default) => store.ListAttemptsAsync(deliveryId, cancellationToken);

    public ValueTask<long> RequeueAsync(WebhookDeliveryFilter filter, TimeSpan spacing, CancellationToken cancellationToken = default) => store.RequeueAsync(filter, spacing, cancellationToken);
}
