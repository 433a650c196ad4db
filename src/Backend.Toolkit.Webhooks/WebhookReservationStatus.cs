namespace Backend.Toolkit.Webhooks;

/// <summary>What a replay guard knows of a message.</summary>
public enum WebhookReservationStatus
{
    /// <summary>Somebody handles it now: answer 409 with Retry-After, never 2xx, since it may yet fail.</summary>
    InProgress,

    /// <summary>Nobody has handled it: it is the caller's, to commit or to release.</summary>
    Reserved,

    /// <summary>It was handled: answer 2xx and do nothing.</summary>
    Committed,

    /// <summary>There is no room to remember it: answer 503.</summary>
    Full,
}
