namespace Backend.Toolkit.Webhooks;

/// <summary>A store's answer to a request for a reservation.</summary>
/// <param name="Status">What it found.</param>
/// <param name="Fence">Reserved: names this reservation, so that one whose lease ended cannot commit another's; 0 otherwise.</param>
/// <param name="LeaseLeft">In progress: what is left of the other's lease.</param>
public readonly record struct WebhookReplayAnswer(WebhookReservationStatus Status, long Fence = 0, TimeSpan LeaseLeft = default);
