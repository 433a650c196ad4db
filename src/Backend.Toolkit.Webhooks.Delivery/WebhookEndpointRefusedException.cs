namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>The URL of an endpoint is refused. The message tells the reason, and may be shown to who gave the URL.</summary>
/// <param name="message">The reason.</param>
public sealed class WebhookEndpointRefusedException(string message) : Exception(message);
