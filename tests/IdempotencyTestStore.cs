using System.Collections.Concurrent;
using System.Data;
using System.Data.Common;
using System.Diagnostics.CodeAnalysis;

namespace Backend.Toolkit.Idempotency.Tests;

internal enum Verb
{
    Begin,
    Renew,
    SavePhase,
    Complete,
    Abandon,
    Wait,
    BeginTransaction,
    Claim,
    CompleteAndCommit,
}

/// <summary>
/// A store in memory that counts its calls, and fails or hangs where a test says so. It has transactions of a kind, too: a claim in one is abandoned when it is rolled back.
/// </summary>
internal sealed class TestStore(IIdempotencyStore inner) : ITransactionalIdempotencyStore
{
    private readonly int[] _calls = new int[Enum.GetValues<Verb>().Length];
    private int _waiting;

    public IIdempotencyStore Inner => inner;

    /// <summary>Asked before each call is passed on; the call waits for what it returns, and fails when that does.</summary>
    public Func<Verb, CancellationToken, Task>? Before { get; set; }

    /// <summary>The same, after the call was passed on: it was done, but its reply is lost.</summary>
    public Func<Verb, CancellationToken, Task>? After { get; set; }

    /// <summary>What it keeps in place of an outcome.</summary>
    public Func<IdempotencyOutcome, IdempotencyOutcome>? Outcome { get; set; }

    /// <summary>How it waits, when not as the store in memory does.</summary>
    public Func<TimeSpan, ValueTask>? Waits { get; set; }

    public ConcurrentQueue<IdempotencyDigest> Begun { get; } = [];

    public TimeSpan? LockTimeout { get; private set; }

    /// <summary>How many wait now.</summary>
    public int Waiting => Volatile.Read(ref _waiting);

    public int Calls(Verb verb) => Volatile.Read(ref _calls[(int)verb]);

    public int AllCalls => Enum.GetValues<Verb>().Sum(Calls);

    /// <summary>Down in these verbs, in all when none is named.</summary>
    public void Fail(params Verb[] verbs) => Before = (verb, _) => verbs.Length == 0 || verbs.Contains(verb) ? Task.FromException(new IdempotencyStoreException("down")) : Task.CompletedTask;

    public void Hang(Verb hanging) => Before = (verb, token) => verb == hanging ? Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, token) : Task.CompletedTask;

    public void Work() => Before = null;

    public ValueTask<IdempotencyClaim> BeginAsync(IdempotencyClaimRequest request, CancellationToken cancellationToken = default)
    {
        Begun.Enqueue(request.Key);
        return CallAsync(Verb.Begin, () => inner.BeginAsync(request, cancellationToken), cancellationToken);
    }

    public ValueTask<bool> RenewAsync(IdempotencyDigest key, long fence, TimeSpan lease, CancellationToken cancellationToken = default) =>
        CallAsync(Verb.Renew, () => inner.RenewAsync(key, fence, lease, cancellationToken), cancellationToken);

    public ValueTask<bool> SavePhaseAsync(IdempotencyDigest key, long fence, string phase, ReadOnlyMemory<byte> value, DbTransaction? transaction = null, CancellationToken cancellationToken = default) =>
        CallAsync(Verb.SavePhase, () => inner.SavePhaseAsync(key, fence, phase, value, null, cancellationToken), cancellationToken);

    public ValueTask<bool> CompleteAsync(IdempotencyDigest key, long fence, IdempotencyOutcome outcome, TimeSpan retention, DbTransaction? transaction = null, CancellationToken cancellationToken = default) =>
        CallAsync(Verb.Complete, () => inner.CompleteAsync(key, fence, Outcome?.Invoke(outcome) ?? outcome, retention, null, cancellationToken), cancellationToken);

    public ValueTask<bool> AbandonAsync(IdempotencyDigest key, long fence, CancellationToken cancellationToken = default) =>
        CallAsync(Verb.Abandon, () => inner.AbandonAsync(key, fence, cancellationToken), cancellationToken);

    public async ValueTask WaitAsync(IdempotencyDigest key, long fence, TimeSpan timeout, CancellationToken cancellationToken = default) => await CallAsync(
        Verb.Wait,
        async () =>
        {
            Interlocked.Increment(ref _waiting);
            try
            {
                await (Waits?.Invoke(timeout) ?? inner.WaitAsync(key, fence, timeout, cancellationToken));
            }
            finally
            {
                Interlocked.Decrement(ref _waiting);
            }

            return true;
        },
        cancellationToken);

    public ValueTask<DbTransaction> BeginTransactionAsync(DbConnection connection, TimeSpan lockTimeout, CancellationToken cancellationToken = default)
    {
        LockTimeout = lockTimeout;
        return CallAsync(Verb.BeginTransaction, () => connection.BeginTransactionAsync(cancellationToken), cancellationToken);
    }

    public ValueTask<IdempotencyClaim> ClaimAsync(
        IdempotencyClaimRequest request, DbTransaction transaction, DuplicatePolicy duplicates, TimeSpan lockTimeout, CancellationToken cancellationToken = default) => CallAsync(
        Verb.Claim,
        async () =>
        {
            IdempotencyClaim claim = await inner.BeginAsync(request with { Lease = TimeSpan.FromDays(1) }, cancellationToken);
            if (claim.Status == IdempotencyClaimStatus.InProgress && duplicates == DuplicatePolicy.WaitAndReplay)
            {
                await inner.WaitAsync(claim.Key, claim.Fence, lockTimeout, cancellationToken);
                claim = await inner.BeginAsync(request with { Lease = TimeSpan.FromDays(1) }, cancellationToken);
            }

            if (claim.Status == IdempotencyClaimStatus.Started)
            {
                ((TestTransaction)transaction).RollingBack = () => inner.AbandonAsync(claim.Key, claim.Fence).AsTask();
            }

            return claim;
        },
        cancellationToken);

    public ValueTask<bool> CompleteAndCommitAsync(
        IdempotencyDigest key, long fence, IdempotencyOutcome outcome, TimeSpan retention, DbTransaction transaction, CancellationToken cancellationToken = default) => CallAsync(
        Verb.CompleteAndCommit,
        async () =>
        {
            bool completed = await inner.CompleteAsync(key, fence, outcome, retention, null, cancellationToken);
            ((TestTransaction)transaction).IsCommitted |= completed;
            return completed;
        },
        cancellationToken);

    private async ValueTask<T> CallAsync<T>(Verb verb, Func<ValueTask<T>> call, CancellationToken token)
    {
        Interlocked.Increment(ref _calls[(int)verb]);
        await (Before?.Invoke(verb, token) ?? Task.CompletedTask);
        T result = await call();
        await (After?.Invoke(verb, token) ?? Task.CompletedTask);
        return result;
    }
}

/// <summary>Remembers what became of its transactions.</summary>
internal sealed class TestConnection : DbConnection
{
    private ConnectionState _state;

    public List<TestTransaction> Transactions { get; } = [];

    [AllowNull]
    public override string ConnectionString { get; set; } = "";

    public override string Database => "";

    public override string DataSource => "";

    public override string ServerVersion => "";

    public override ConnectionState State => _state;

    public override void ChangeDatabase(string databaseName) => throw new NotSupportedException();

    public override void Close() => _state = ConnectionState.Closed;

    public override void Open() => _state = ConnectionState.Open;

    protected override DbTransaction BeginDbTransaction(IsolationLevel isolationLevel)
    {
        _state.Should().Be(ConnectionState.Open);
        var transaction = new TestTransaction(this);
        Transactions.Add(transaction);
        return transaction;
    }

    protected override DbCommand CreateDbCommand() => throw new NotSupportedException();
}

internal sealed class TestTransaction(TestConnection connection) : DbTransaction
{
    public bool IsCommitted { get; set; }

    public bool IsRolledBack { get; private set; }

    public bool IsDisposed { get; private set; }

    public Func<Task>? RollingBack { get; set; }

    public Action? Disposing { get; set; }

    public override IsolationLevel IsolationLevel => IsolationLevel.ReadCommitted;

    protected override DbConnection DbConnection => connection;

    public override void Commit()
    {
        IsRolledBack.Should().BeFalse();
        IsCommitted = true;
    }

    public override void Rollback() => throw new NotSupportedException("not used");

    public override async Task RollbackAsync(CancellationToken cancellationToken = default)
    {
        IsCommitted.Should().BeFalse();
        IsRolledBack = true;
        await (RollingBack?.Invoke() ?? Task.CompletedTask);
    }

    protected override void Dispose(bool disposing)
    {
        IsDisposed = true;
        Disposing?.Invoke();
    }
}
