namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>
/// What an attempt says of its endpoint. A success sets the failures to zero and ends the pause. A failure counts, and pauses, only when the failures still are what the claim saw: attempts that failed side by
/// side are one failure.
/// </summary>
/// <param name="Failures">What it adds to the consecutive failures; 0: a success; null: nothing is known.</param>
/// <param name="Pause">After a failure: how long nothing is sent, from now.</param>
/// <param name="DisabledReason">The endpoint is disabled for this reason; null: it is not.</param>
/// <param name="DisabledEvent">Enqueued in the same transaction when this outcome is the one that disabled it.</param>
public sealed record WebhookEndpointHealth(int? Failures, TimeSpan Pause, string? DisabledReason = null, WebhookEventRow? DisabledEvent = null);
