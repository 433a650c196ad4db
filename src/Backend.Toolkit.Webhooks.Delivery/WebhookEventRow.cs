namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>An event as a store keeps it.</summary>
/// <param name="Id">Unique.</param>
/// <param name="Type">The type.</param>
/// <param name="Audience">Whose endpoints may see it.</param>
/// <param name="OrderKey">Null: in any order.</param>
/// <param name="EndpointId">The one endpoint that gets it, whatever it subscribes to; null: all that subscribe.</param>
/// <param name="TraceParent">The W3C trace context of who enqueued it, or null.</param>
/// <param name="Payload">The body.</param>
public sealed record WebhookEventRow(string Id, string Type, string Audience, string? OrderKey, string? EndpointId, string? TraceParent, ReadOnlyMemory<byte> Payload);
