namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>One event on its way to one endpoint. Times are by the store's clock.</summary>
/// <param name="Id">Grows with time.</param>
/// <param name="EventId">The <c>webhook-id</c>.</param>
/// <param name="EventType">The type of the event.</param>
/// <param name="EndpointId">Where it goes.</param>
/// <param name="OrderKey">Null: in any order.</param>
/// <param name="State">What became of it.</param>
/// <param name="Attempts">How many were recorded since it was enqueued, redriven or resent.</param>
/// <param name="NextAttemptAt">When the next attempt is due; while one is under way, when it would be taken over; null when finished.</param>
/// <param name="FinishedAt">When it was delivered or became a dead letter.</param>
/// <param name="DeadReason">Why it is a dead letter, or null.</param>
public sealed record WebhookDelivery(long Id, string EventId, string EventType, string EndpointId, string? OrderKey, WebhookDeliveryState State, int Attempts, DateTimeOffset? NextAttemptAt, DateTimeOffset? FinishedAt, string? DeadReason);
