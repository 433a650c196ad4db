namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>One attempt of a delivery.</summary>
/// <param name="Number">Grows with each attempt of the delivery; one that is missing was begun by a worker that did not live to record it.</param>
/// <param name="RecordedAt">By the store's clock.</param>
/// <param name="Status">The HTTP status; null: there was no answer.</param>
/// <param name="Duration">From before the connection to the end of what was read of the answer.</param>
/// <param name="Error">Why there was no answer, or null.</param>
/// <param name="Response">The first bytes of the answer's body, 8 192 at most.</param>
public sealed record WebhookAttempt(long Number, DateTimeOffset RecordedAt, int? Status, TimeSpan Duration, string? Error, ReadOnlyMemory<byte> Response);
