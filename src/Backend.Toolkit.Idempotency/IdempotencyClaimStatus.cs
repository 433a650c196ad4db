namespace Backend.Toolkit.Idempotency;

/// <summary>What a store found under a key.</summary>
public enum IdempotencyClaimStatus
{
    /// <summary>The caller owns the key now, with a fence of its own and the phases that a former owner saved.</summary>
    Started,

    /// <summary>Somebody else owns it, and the lease has not ended.</summary>
    InProgress,

    /// <summary>A run ended, and its outcome is kept.</summary>
    Completed,

    /// <summary>The key is bound to another fingerprint.</summary>
    Mismatch,
}
