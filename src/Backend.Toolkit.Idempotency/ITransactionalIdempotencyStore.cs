using System.Data.Common;

namespace Backend.Toolkit.Idempotency;

/// <summary>
/// A store in a database that the application writes to as well, so that claim, effects and outcome can be one commit. It accepts the transactions
/// of its own database in all verbs, and adds what transaction mode needs.
/// </summary>
public interface ITransactionalIdempotencyStore : IIdempotencyStore
{
    /// <summary>Begins a transaction as a claim in it needs it: in PostgreSQL read committed; in SQLite one that takes the writer's lock at once.</summary>
    /// <param name="connection">An open connection to the store's database.</param>
    /// <param name="lockTimeout">The longest wait for a lock that beginning takes; above zero.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The transaction.</returns>
    /// <exception cref="IdempotencyStoreException">The store is down, or the lock was not to be had in time.</exception>
    public ValueTask<DbTransaction> BeginTransactionAsync(DbConnection connection, TimeSpan lockTimeout, CancellationToken cancellationToken = default);

    /// <summary>
    /// Claims the key inside the caller's transaction: a rollback takes the claim back, and nobody sees it before the commit. Another transaction that claimed
    /// the key is waited for, or not, as <paramref name="duplicates"/> says; when the wait is over without an end: in progress, and the transaction is only good for a rollback.
    /// Needs no lease and no renewal: the transaction holds the claim.
    /// </summary>
    /// <param name="request">What is claimed.</param>
    /// <param name="transaction">The caller's transaction.</param>
    /// <param name="duplicates">Whether another owner is waited for.</param>
    /// <param name="lockTimeout">The longest wait, above zero; it travels with the claim and holds for the claim alone.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The claim.</returns>
    public ValueTask<IdempotencyClaim> ClaimAsync(IdempotencyClaimRequest request, DbTransaction transaction, DuplicatePolicy duplicates, TimeSpan lockTimeout, CancellationToken cancellationToken = default);

    /// <summary>Writes the outcome and commits, in one round trip where the database can. Afterwards the transaction is only disposed of.</summary>
    /// <param name="key">Where the record is.</param>
    /// <param name="fence">The owner's fence.</param>
    /// <param name="outcome">What is kept.</param>
    /// <param name="retention">How long, from now.</param>
    /// <param name="transaction">The transaction.</param>
    /// <param name="cancellationToken">Ends the call; then it is not known whether the commit was made.</param>
    /// <returns>False: the record is not in progress under this fence, nothing was committed, and the caller rolls back.</returns>
    public ValueTask<bool> CompleteAndCommitAsync(IdempotencyDigest key, long fence, IdempotencyOutcome outcome, TimeSpan retention, DbTransaction transaction, CancellationToken cancellationToken = default);
}
