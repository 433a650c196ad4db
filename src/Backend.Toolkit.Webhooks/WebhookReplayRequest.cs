namespace Backend.Toolkit.Webhooks;

/// <summary>What a store of seen messages is asked for. Durations only: the store's clock makes instants of them.</summary>
public readonly record struct WebhookReplayRequest
{
    /// <summary>What was signed.</summary>
    public required WebhookReplayKey Key { get; init; }

    /// <summary>How long the reservation holds against others.</summary>
    public required TimeSpan Lease { get; init; }

    /// <summary>How long the key is remembered, reserved or committed; at least as long as the lease.</summary>
    public required TimeSpan KeepFor { get; init; }
}
