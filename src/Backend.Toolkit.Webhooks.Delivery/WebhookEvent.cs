namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>What happened, for whom. It is sent to each endpoint of the audience that subscribes to the type.</summary>
/// <param name="Type">Such as <c>order.created</c>: 1 to 128 visible ASCII characters.</param>
/// <param name="Payload">The body that is sent, byte for byte: at most 1 048 576 bytes.</param>
/// <param name="Audience">Whose endpoints may see it, such as a tenant: 1 to 128 characters.</param>
/// <param name="Id">The <c>webhook-id</c>, the same in all attempts: 1 to 128 of A–Z, a–z, 0–9, <c>-</c> and <c>_</c>. An id that is there already is not enqueued again. Null: a new one.</param>
/// <param name="OrderKey">Events of one key reach an endpoint in the order in which they were enqueued, one at a time: 1 to 128 characters. Null: in any order.</param>
public sealed record WebhookEvent(string Type, ReadOnlyMemory<byte> Payload, string Audience, string? Id = null, string? OrderKey = null);
