using System.Collections.ObjectModel;

namespace Backend.Toolkit.Idempotency;

/// <summary>A store's answer to a claim.</summary>
public readonly struct IdempotencyClaim
{
    private IdempotencyClaim(IdempotencyClaimStatus status, IdempotencyDigest key, long fence)
    {
        Status = status;
        Key = key;
        Fence = fence;
    }

    /// <summary>What was found.</summary>
    public IdempotencyClaimStatus Status { get; }

    /// <summary>The key under which the record is: the first or the second that was asked for. All later writes name it.</summary>
    public IdempotencyDigest Key { get; }

    /// <summary>The owner's fence, the caller's or another's; 0 when there is no owner.</summary>
    public long Fence { get; }

    /// <summary>Started: what former owners saved, by phase; empty otherwise.</summary>
    public IReadOnlyDictionary<string, ReadOnlyMemory<byte>> Phases
    {
        get => field ?? ReadOnlyDictionary<string, ReadOnlyMemory<byte>>.Empty;
        private init;
    }

    /// <summary>Completed: the outcome; null otherwise.</summary>
    public IdempotencyOutcome? Outcome { get; private init; }

    /// <summary>In progress: what is left of the owner's lease by the store's clock, never negative; zero otherwise.</summary>
    public TimeSpan LeaseLeft { get; private init; }

    /// <summary>The caller owns the key now.</summary>
    /// <param name="key">Where the record is.</param>
    /// <param name="fence">The caller's fence: max(the record's last fence + 1, the store's time in µs since 1970).</param>
    /// <param name="phases">What former owners saved; null when there is nothing.</param>
    /// <returns>The claim.</returns>
    public static IdempotencyClaim Started(IdempotencyDigest key, long fence, IReadOnlyDictionary<string, ReadOnlyMemory<byte>>? phases = null) =>
        new(IdempotencyClaimStatus.Started, key, fence) { Phases = phases ?? ReadOnlyDictionary<string, ReadOnlyMemory<byte>>.Empty };

    /// <summary>Somebody else owns it.</summary>
    /// <param name="key">Where the record is.</param>
    /// <param name="fence">The owner's fence, to wait for; 0 when the store cannot tell (it waits behind a transaction).</param>
    /// <param name="leaseLeft">What is left of the lease.</param>
    /// <returns>The claim.</returns>
    public static IdempotencyClaim InProgress(IdempotencyDigest key, long fence, TimeSpan leaseLeft) =>
        new(IdempotencyClaimStatus.InProgress, key, fence) { LeaseLeft = leaseLeft < TimeSpan.Zero ? TimeSpan.Zero : leaseLeft };

    /// <summary>A run ended.</summary>
    /// <param name="key">Where the record is.</param>
    /// <param name="outcome">What was kept of it.</param>
    /// <returns>The claim.</returns>
    public static IdempotencyClaim Completed(IdempotencyDigest key, IdempotencyOutcome outcome) =>
        new(IdempotencyClaimStatus.Completed, key, 0) { Outcome = outcome };

    /// <summary>The key is bound to another fingerprint.</summary>
    /// <param name="key">Where the record is.</param>
    /// <returns>The claim.</returns>
    public static IdempotencyClaim Mismatch(IdempotencyDigest key) => new(IdempotencyClaimStatus.Mismatch, key, 0);
}
