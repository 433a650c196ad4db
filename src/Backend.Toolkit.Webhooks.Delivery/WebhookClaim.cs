namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>A delivery that a worker has taken, with all that an attempt needs.</summary>
/// <param name="DeliveryId">The delivery.</param>
/// <param name="Fence">Grows with each claim of the delivery; an outcome counts only under the last one.</param>
/// <param name="Attempts">How many were recorded before.</param>
/// <param name="Age">Since the first attempt was claimed, by the store's clock; zero for the first.</param>
/// <param name="Event">The event.</param>
/// <param name="Endpoint">The endpoint.</param>
/// <param name="Secrets">Its secrets, protected.</param>
/// <param name="FailingFor">How long there was nothing but failure, by the store's clock; null: the last outcome was a success.</param>
public sealed record WebhookClaim(long DeliveryId, long Fence, int Attempts, TimeSpan Age, WebhookEventRow Event, WebhookEndpoint Endpoint, string Secrets, TimeSpan? FailingFor);
