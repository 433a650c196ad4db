namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>An endpoint that was created, with its secret, which is told this once.</summary>
/// <param name="Endpoint">The endpoint.</param>
/// <param name="Secret">What its owner verifies with.</param>
public sealed record NewWebhookEndpoint(WebhookEndpoint Endpoint, string Secret);
