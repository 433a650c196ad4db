namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>What a worker reports of a claim, for the store to record in one transaction with others.</summary>
/// <param name="Claim">The claim; when its fence is not the delivery's any more, only <see cref="Attempt"/> is recorded.</param>
/// <param name="State">Pending: due again after <see cref="Delay"/>.</param>
/// <param name="Delay">From now, by the store's clock.</param>
/// <param name="DeadReason">Why it is a dead letter, or null.</param>
/// <param name="Attempt">What was attempted; null: nothing, and the delivery goes back as it was.</param>
/// <param name="Health">What the attempt says of the endpoint.</param>
public sealed record WebhookOutcome(WebhookClaim Claim, WebhookDeliveryState State, TimeSpan Delay, string? DeadReason, WebhookAttempt? Attempt, WebhookEndpointHealth Health);
