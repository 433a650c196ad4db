using System.Data.Common;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>
/// Where events, endpoints, deliveries and attempts are. Times are by the store's clock, and durations are given: workers need not agree on the time. Every verb is one transaction, and may be repeated after a failure:
/// fences keep the outcome of a claim that was lost from counting.
/// </summary>
public interface IWebhookDeliveryStore
{
    /// <summary>Makes tables and indexes, unless they are there or the options say that this is the application's to do.</summary>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>When they are there.</returns>
    public ValueTask PrepareAsync(CancellationToken cancellationToken = default);

    /// <summary>One insert; an id that is there already is left as it is.</summary>
    /// <param name="row">The event.</param>
    /// <param name="transaction">The caller's transaction in the store's database; null: a transaction of its own.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>When it is inserted.</returns>
    public ValueTask EnqueueAsync(WebhookEventRow row, DbTransaction? transaction, CancellationToken cancellationToken = default);

    /// <summary>Makes a delivery for each event that has none yet and each endpoint that it is for, disabled ones too, which only <see cref="WebhookEndpoints.DisabledType"/> passes over; oldest events first, one caller at a time.</summary>
    /// <param name="limit">How many events.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>How many events; 0 also when another caller is at it.</returns>
    public ValueTask<int> FanOutAsync(int limit, CancellationToken cancellationToken = default);

    /// <summary>
    /// Takes due deliveries of enabled endpoints that are not paused. A delivery with an order key is taken only when no earlier one of its endpoint and key is pending, and none is
    /// under way.
    /// </summary>
    /// <param name="request">What is asked for.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The claims, of each endpoint the one that is due longest first.</returns>
    public ValueTask<IReadOnlyList<WebhookClaim>> ClaimAsync(WebhookClaimRequest request, CancellationToken cancellationToken = default);

    /// <summary>Records outcomes.</summary>
    /// <param name="outcomes">At most one for each claim.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>When they are recorded.</returns>
    public ValueTask RecordAsync(IReadOnlyList<WebhookOutcome> outcomes, CancellationToken cancellationToken = default);

    /// <summary>Makes dead letters of what is pending at disabled endpoints, and deletes what has been finished for longer than the retention, up to a limit of each.</summary>
    /// <param name="retention">How long finished deliveries and their events are kept.</param>
    /// <param name="limit">How many rows of each kind.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>How many rows; as many as the limit or more: there may be others.</returns>
    public ValueTask<int> MaintainAsync(TimeSpan retention, int limit, CancellationToken cancellationToken = default);

    /// <summary>How long the oldest due delivery has been due, or an event has waited for its fan-out; deliveries of disabled and paused endpoints, and those that wait behind the head of their key, are not meant.</summary>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>Zero: nothing is due.</returns>
    public ValueTask<TimeSpan> OldestDueAsync(CancellationToken cancellationToken = default);

    /// <summary>Adds an endpoint.</summary>
    /// <param name="row">The endpoint.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>When it is added.</returns>
    public ValueTask InsertEndpointAsync(WebhookEndpointRow row, CancellationToken cancellationToken = default);

    /// <summary>Changes URL, types, secrets and whether it is enabled; enabling, or another URL, forgets failures and pause.</summary>
    /// <param name="row">The endpoint, with the version that it was read with.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>False: it has another version by now, or is gone.</returns>
    public ValueTask<bool> UpdateEndpointAsync(WebhookEndpointRow row, CancellationToken cancellationToken = default);

    /// <summary>One endpoint.</summary>
    /// <param name="endpointId">Its id.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>Null: there is none.</returns>
    public ValueTask<WebhookEndpointRow?> FindEndpointAsync(string endpointId, CancellationToken cancellationToken = default);

    /// <summary>Endpoints in the order of their ids.</summary>
    /// <param name="audience">Of this audience; null: of all.</param>
    /// <param name="afterId">Behind this id; empty: from the first.</param>
    /// <param name="limit">How many.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The endpoints.</returns>
    public ValueTask<IReadOnlyList<WebhookEndpoint>> ListEndpointsAsync(string? audience, string afterId, int limit, CancellationToken cancellationToken = default);

    /// <summary>Deliveries, newest first.</summary>
    /// <param name="filter">Which.</param>
    /// <param name="beforeId">Older than this one; null: from the newest.</param>
    /// <param name="limit">How many.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The deliveries.</returns>
    public ValueTask<IReadOnlyList<WebhookDelivery>> ListDeliveriesAsync(WebhookDeliveryFilter filter, long? beforeId, int limit, CancellationToken cancellationToken = default);

    /// <summary>The attempts of a delivery, oldest first.</summary>
    /// <param name="deliveryId">The delivery.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The attempts.</returns>
    public ValueTask<IReadOnlyList<WebhookAttempt>> ListAttemptsAsync(long deliveryId, CancellationToken cancellationToken = default);

    /// <summary>Makes finished deliveries of enabled endpoints pending again, as if they had never been attempted, oldest first; their attempts stay listed.</summary>
    /// <param name="filter">Which.</param>
    /// <param name="spacing">The time between one and the next becoming due; zero: all are due at once.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>How many.</returns>
    public ValueTask<long> RequeueAsync(WebhookDeliveryFilter filter, TimeSpan spacing, CancellationToken cancellationToken = default);
}
