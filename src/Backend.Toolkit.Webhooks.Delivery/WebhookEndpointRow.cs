namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>An endpoint as a store keeps it.</summary>
/// <param name="Endpoint">What may be told.</param>
/// <param name="Secrets">The secrets, protected and opaque to the store.</param>
/// <param name="Version">Grows by one with each update of the endpoint's settings.</param>
public sealed record WebhookEndpointRow(WebhookEndpoint Endpoint, string Secrets, long Version);
