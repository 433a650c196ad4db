using System.Data.Common;

namespace Backend.Toolkit.Idempotency;

/// <summary>
/// Records by key, shared by all who may get the same request. Each verb is one atomic step of the store, decided by the store's clock alone.
/// Every write names the fence of its owner and is done only while the record is in progress under exactly that fence: false says that it is not,
/// and that nothing was changed. A lease that ended takes nothing from its owner until somebody else claims the key. A store that cannot answer
/// throws <see cref="IdempotencyStoreException"/> after a time of its own; then it is not known whether the write was done.
/// </summary>
public interface IIdempotencyStore
{
    /// <summary>
    /// Claims the key, or tells what is there. A record whose retention has passed is not there. Another fingerprint: mismatch, whatever the state. Completed: the outcome.
    /// In progress with a lease that runs: in progress. No record, an abandoned one or a lease that ended: started, with a new fence and the saved phases.
    /// </summary>
    /// <param name="request">What is claimed, and for how long.</param>
    /// <param name="cancellationToken">Ends the call. The claim may have been made all the same; then its lease ends it.</param>
    /// <returns>The claim.</returns>
    /// <exception cref="IdempotencyStoreException">The store is down, or has no room.</exception>
    public ValueTask<IdempotencyClaim> BeginAsync(IdempotencyClaimRequest request, CancellationToken cancellationToken = default);

    /// <summary>Lets the lease end <paramref name="lease"/> from now; the record is kept at least as long.</summary>
    /// <param name="key">Where the record is.</param>
    /// <param name="fence">The owner's fence.</param>
    /// <param name="lease">How long.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>False: the record is not in progress under this fence.</returns>
    public ValueTask<bool> RenewAsync(IdempotencyDigest key, long fence, TimeSpan lease, CancellationToken cancellationToken = default);

    /// <summary>Keeps the value of a phase, in place of one that it may have had.</summary>
    /// <param name="key">Where the record is.</param>
    /// <param name="fence">The owner's fence.</param>
    /// <param name="phase">The name, 1 to 100 characters, compared by code unit.</param>
    /// <param name="value">The value, copied.</param>
    /// <param name="transaction">When given, the write is part of it. A store without transactions throws <see cref="NotSupportedException"/>.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>False: the record is not in progress under this fence.</returns>
    public ValueTask<bool> SavePhaseAsync(IdempotencyDigest key, long fence, string phase, ReadOnlyMemory<byte> value, DbTransaction? transaction = null, CancellationToken cancellationToken = default);

    /// <summary>Keeps the outcome for <paramref name="retention"/> from now, forgets the phases and wakes who waits. Saying it again is true again and changes nothing.</summary>
    /// <param name="key">Where the record is.</param>
    /// <param name="fence">The owner's fence.</param>
    /// <param name="outcome">What is kept; its content is copied.</param>
    /// <param name="retention">How long.</param>
    /// <param name="transaction">When given, the write is part of it. A store without transactions throws <see cref="NotSupportedException"/>.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>False: the record is neither in progress under this fence nor was it completed under it.</returns>
    public ValueTask<bool> CompleteAsync(IdempotencyDigest key, long fence, IdempotencyOutcome outcome, TimeSpan retention, DbTransaction? transaction = null, CancellationToken cancellationToken = default);

    /// <summary>
    /// Gives the key back and wakes who waits: the next claim starts at once. With saved phases the record stays, bound to its fingerprint; without any it is as though
    /// there had never been one. The fence is never given out for this key again.
    /// </summary>
    /// <param name="key">Where the record is.</param>
    /// <param name="fence">The owner's fence.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>False: the record is not in progress under this fence.</returns>
    public ValueTask<bool> AbandonAsync(IdempotencyDigest key, long fence, CancellationToken cancellationToken = default);

    /// <summary>
    /// Returns when the record is no longer in progress under this fence, or when the time is over: at the end of a lease it need not wake. It may return early;
    /// who waited claims again. Woken, not polled, where the store can.
    /// </summary>
    /// <param name="key">Where the record is.</param>
    /// <param name="fence">The fence of the owner that is waited for.</param>
    /// <param name="timeout">The longest wait, by the caller's time.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>When the wait is over.</returns>
    public ValueTask WaitAsync(IdempotencyDigest key, long fence, TimeSpan timeout, CancellationToken cancellationToken = default);
}
