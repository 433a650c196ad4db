namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>
/// What became of events: deliveries, attempts, dead letters; and another try. A redrive or a resend begins the schedule afresh under the same <c>webhook-id</c>: a receiver that remembers ids for 80 h takes it as a
/// repeat within them, and may run it again after. Whether who asks may see a delivery is the application's to decide: a filter with the audience and the id finds it or not. Thread-safe.
/// </summary>
/// <param name="store">The store.</param>
/// <param name="worker">The worker of this process, if there is one.</param>
public sealed class WebhookDeliveries(IWebhookDeliveryStore store, WebhookDeliveryWorker? worker = null)
{
    private readonly IWebhookDeliveryStore _store = store ?? throw new ArgumentNullException(nameof(store));

    /// <summary>Deliveries, newest first.</summary>
    /// <param name="filter">Which; for what a customer sees, with its audience.</param>
    /// <param name="beforeId">Older than this one; null: from the newest.</param>
    /// <param name="limit">1 to 1 000; default 100.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The deliveries.</returns>
    public ValueTask<IReadOnlyList<WebhookDelivery>> ListAsync(WebhookDeliveryFilter filter, long? beforeId = null, int limit = 100, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(filter);
        ArgumentOutOfRangeException.ThrowIfLessThan(limit, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(limit, 1000);
        return _store.ListDeliveriesAsync(filter, beforeId, limit, cancellationToken);
    }

    /// <summary>The attempts of a delivery, oldest first, those before a redrive included.</summary>
    /// <param name="deliveryId">The delivery.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The attempts.</returns>
    public ValueTask<IReadOnlyList<WebhookAttempt>> ListAttemptsAsync(long deliveryId, CancellationToken cancellationToken = default) => _store.ListAttemptsAsync(deliveryId, cancellationToken);

    /// <summary>Tries one dead letter again; its endpoint must be enabled. With an order key it goes before what is pending of its key.</summary>
    /// <param name="deliveryId">The delivery.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>False: it is no dead letter, or its endpoint is disabled.</returns>
    public async ValueTask<bool> RedriveAsync(long deliveryId, CancellationToken cancellationToken = default) =>
        await RequeueAsync(new WebhookDeliveryFilter(DeliveryId: deliveryId, State: WebhookDeliveryState.Dead), TimeSpan.Zero, cancellationToken).ConfigureAwait(false) > 0;

    /// <summary>Tries dead letters again, oldest first, so many a second; those of disabled endpoints stay.</summary>
    /// <param name="filter">Which; their state is dead, whatever it says.</param>
    /// <param name="perSecond">0.00001, about one a day, to 1 000 000.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>How many.</returns>
    public ValueTask<long> RedriveAsync(WebhookDeliveryFilter filter, double perSecond, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(filter);
        if (perSecond is not (>= 0.000_01 and <= 1_000_000))
        {
            throw new ArgumentOutOfRangeException(nameof(perSecond), perSecond, "must be between 0.00001 and 1000000");
        }

        return RequeueAsync(filter with { State = WebhookDeliveryState.Dead }, TimeSpan.FromSeconds(1 / perSecond), cancellationToken);
    }

    /// <summary>Sends a finished delivery again, delivered or dead; its endpoint must be enabled.</summary>
    /// <param name="deliveryId">The delivery.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>False: it is pending anyway, or gone, or its endpoint is disabled.</returns>
    public async ValueTask<bool> ResendAsync(long deliveryId, CancellationToken cancellationToken = default) =>
        await RequeueAsync(new WebhookDeliveryFilter(DeliveryId: deliveryId), TimeSpan.Zero, cancellationToken).ConfigureAwait(false) > 0;

    private async ValueTask<long> RequeueAsync(WebhookDeliveryFilter filter, TimeSpan spacing, CancellationToken cancellationToken)
    {
        long count = await _store.RequeueAsync(filter, spacing, cancellationToken).ConfigureAwait(false);
        worker?.Wake();
        return count;
    }
}
