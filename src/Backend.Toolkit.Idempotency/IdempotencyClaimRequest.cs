namespace Backend.Toolkit.Idempotency;

/// <summary>What a store is asked for when a run is about to begin. It holds durations only: the store's clock makes instants of them.</summary>
public readonly record struct IdempotencyClaimRequest
{
    /// <summary>The key under which a new record is written.</summary>
    public required IdempotencyDigest Key { get; init; }

    /// <summary>A second key under which the record may be, while a secret is being rotated. The look-up of both and the claim are one atomic step, whichever of the two comes first.</summary>
    public IdempotencyDigest? PreviousKey { get; init; }

    /// <summary>What the key is bound to.</summary>
    public required IdempotencyDigest Fingerprint { get; init; }

    /// <summary>How long the claim holds without being renewed.</summary>
    public required TimeSpan Lease { get; init; }

    /// <summary>How long the record is kept when nothing more is heard of it.</summary>
    public required TimeSpan Retention { get; init; }
}
