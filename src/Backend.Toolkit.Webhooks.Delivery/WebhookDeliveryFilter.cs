namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>Which deliveries are meant; what is null does not restrict.</summary>
/// <param name="Audience">Of this audience.</param>
/// <param name="EndpointId">To this endpoint.</param>
/// <param name="EventType">Of events of this type.</param>
/// <param name="EventId">Of this event.</param>
/// <param name="State">In this state.</param>
/// <param name="DeliveryId">This one.</param>
public sealed record WebhookDeliveryFilter(string? Audience = null, string? EndpointId = null, string? EventType = null, string? EventId = null, WebhookDeliveryState? State = null, long? DeliveryId = null);
