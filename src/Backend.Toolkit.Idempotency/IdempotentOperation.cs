using System.Data;
using System.Data.Common;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace Backend.Toolkit.Idempotency;

/// <summary>
/// One run under a key, from the claim to its end. In lease mode it renews its lease at every third of it, with one timer; when the lease is lost its token is cancelled, and what it
/// makes is not recorded. It may be used by several threads at once, but ends once.
/// </summary>
public sealed class IdempotentOperation : IAsyncDisposable
{
    private const int LongestPhase = 100;

    private static TimeSpan FirstRetry { get; } = TimeSpan.FromMilliseconds(50);

    private static TimeSpan LongestRetry { get; } = TimeSpan.FromSeconds(1);

    /// <summary>Stands for the value of a phase while it runs; known by its address.</summary>
    private static ReadOnlyMemory<byte> Running { get; } = new byte[1];

    private readonly IdempotentExecutor _executor;
    private readonly IdempotencyDigest _root;
    private readonly Lock _gate = new();
    private CancellationTokenSource? _cancellation;
    private CancellationToken _token;
    private ITimer? _heartbeat;
    private Dictionary<string, ReadOnlyMemory<byte>>? _phases;
    private DbTransaction? _transaction;
    private IdempotencyDigest _key;
    private long _fence;
    private long _leaseEnd;
    private bool _inLeaseMode;
    private bool _transactionTaken;
    private volatile bool _leaseLost;
    private volatile bool _takenOver;
    private volatile End _end;
    private int _renewing;

    internal IdempotentOperation(
        IdempotentExecutor executor, ExecutorSettings settings, IdempotencyStatus status, IdempotencyClaimRequest request, IdempotencyDigest root, CancellationToken callerToken)
    {
        _executor = executor;
        _root = root;
        Settings = settings;
        Status = status;
        Request = request;
        CallerToken = callerToken;
        _token = callerToken;
    }

    private enum End
    {
        None,
        Completing,
        Completed,
        Abandoned,
        Disposed,
    }

    /// <summary>How the operation stands. An action that was called has one that is started, or that runs unprotected.</summary>
    public IdempotencyStatus Status { get; private set; }

    /// <summary>Completed before: the outcome to answer with; null otherwise.</summary>
    public IdempotencyOutcome? Outcome { get; private set; }

    /// <summary>In progress under a lease: the time after which the owner has ended or can be taken over; null otherwise, also while somebody else's transaction has the key, which ends when that does.</summary>
    public TimeSpan? RetryAfter { get; private set; }

    /// <summary>Cancelled when the lease is lost, and when the token of whoever began the operation is.</summary>
    public CancellationToken CancellationToken => _token;

    /// <summary>The lease ended before the run did.</summary>
    public bool IsLeaseLost => _leaseLost;

    /// <summary>The action gave the key back.</summary>
    public bool IsAbandoned => _end == End.Abandoned;

    internal ExecutorSettings Settings { get; }

    internal IdempotencyClaimRequest Request { get; }

    internal CancellationToken CallerToken { get; }

    private bool IsOurs => Status is IdempotencyStatus.Started or IdempotencyStatus.Unprotected;

    /// <summary>
    /// A key for a call that the run makes, so that the far side can tell a repeat: the same for the same scope, key, fingerprint and step, on every node, after a takeover and whatever
    /// the secrets are.
    /// </summary>
    /// <param name="step">The name of the call within the run.</param>
    /// <returns>A UUID of version 8, 36 characters.</returns>
    public string DownstreamKey(string step)
    {
        ArgumentException.ThrowIfNullOrEmpty(step);
        Span<byte> bytes = stackalloc byte[IdempotencyDigest.Size];
        _root.CopyTo(bytes);
        KeyHash.Compute(null, "step", step, "", "", bytes).CopyTo(bytes);
        bytes[6] = (byte)(0x80 | (bytes[6] & 0x0f));
        bytes[8] = (byte)(0x80 | (bytes[8] & 0x3f));
        return new Guid(bytes[..16], bigEndian: true).ToString("D");
    }

    /// <summary>
    /// A recovery point, in lease mode: runs the action and keeps its result; a run that takes over gets the result that was kept, and the action is not called.
    /// </summary>
    /// <typeparam name="T">The result.</typeparam>
    /// <param name="name">The name of the phase within the run, 1 to 100 characters.</param>
    /// <param name="action">What the phase does.</param>
    /// <param name="type">How the result is written and read.</param>
    /// <param name="cancellationToken">Given to the action; by default the operation's token.</param>
    /// <returns>The result, of this run or a former one.</returns>
    /// <exception cref="IdempotencyException">The lease was lost, or what was kept cannot be read.</exception>
    /// <exception cref="InvalidOperationException">
    /// It is not lease mode, the operation has ended, a phase of this name is running, or the result is larger than <see cref="IdempotencyOptions.MaxOutcomeBytes"/>.
    /// </exception>
    [OverloadResolutionPriority(1)]
    public ValueTask<T> PhaseAsync<T>(string name, Func<CancellationToken, ValueTask<T>> action, JsonTypeInfo<T> type, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        ArgumentNullException.ThrowIfNull(type);
        ThrowIfNoName(name);
        return RunPhaseAsync(name, action, type, cancellationToken);
    }

    /// <inheritdoc cref="PhaseAsync{T}(string, Func{CancellationToken, ValueTask{T}}, JsonTypeInfo{T}, CancellationToken)"/>
    public ValueTask<T> PhaseAsync<T>(string name, Func<CancellationToken, Task<T>> action, JsonTypeInfo<T> type, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        ArgumentNullException.ThrowIfNull(type);
        ThrowIfNoName(name);
        return RunPhaseAsync(name, token => new ValueTask<T>(action(token)), type, cancellationToken);
    }

    /// <summary>
    /// A recovery point in a transaction of its own, for a store in the application's database: what the action writes and that the phase is done are one commit.
    /// </summary>
    /// <typeparam name="T">The result.</typeparam>
    /// <param name="name">The name of the phase within the run, 1 to 100 characters.</param>
    /// <param name="connection">A connection to the store's database; opened when it is closed.</param>
    /// <param name="action">What the phase does; it neither commits nor disposes.</param>
    /// <param name="type">How the result is written and read.</param>
    /// <param name="cancellationToken">Given to the action; by default the operation's token.</param>
    /// <returns>The result, of this run or a former one.</returns>
    /// <exception cref="IdempotencyException">The lease was lost (and nothing committed), or what was kept cannot be read.</exception>
    /// <exception cref="InvalidOperationException">It is not lease mode, the operation has ended, a phase of this name is running, the store has no transactions, or the result is too large.</exception>
    public ValueTask<T> PhaseAsync<T>(string name, DbConnection connection, Func<DbTransaction, CancellationToken, ValueTask<T>> action, JsonTypeInfo<T> type, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(connection);
        ArgumentNullException.ThrowIfNull(action);
        ArgumentNullException.ThrowIfNull(type);
        ThrowIfNoName(name);
        return RunPhaseAsync(name, connection, action, type, cancellationToken);
    }

    /// <summary>
    /// Begins the transaction that the run's effects and its outcome are committed in. In transaction mode it claims the key in it; in lease mode the fence is checked when the outcome is
    /// written. Whoever began the operation commits or rolls back: the caller neither commits nor disposes.
    /// </summary>
    /// <param name="connection">A connection to the store's database; opened when it is closed.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The transaction, for ADO.NET, Dapper (<c>transaction:</c>) or EF Core (<c>UseTransactionAsync</c>).</returns>
    /// <exception cref="IdempotencyException">The key ran before, is in progress or is bound to another request. Let it pass: whoever began the operation answers.</exception>
    /// <exception cref="IdempotencyStoreException">The database does not answer.</exception>
    /// <exception cref="InvalidOperationException">The operation has a transaction already, has ended, or its store has no transactions.</exception>
    public async ValueTask<DbTransaction> BeginTransactionAsync(DbConnection connection, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(connection);
        ThrowIfEnded();
        if (Status is not (IdempotencyStatus.Prepared or IdempotencyStatus.Started or IdempotencyStatus.Unprotected))
        {
            throw NotStarted();
        }

        if (Interlocked.Exchange(ref _transactionTaken, true))
        {
            throw new InvalidOperationException("An operation has one transaction, and this one has begun it already.");
        }

        TimeSpan patience = _executor.Patience(Settings);
        patience = patience > OneMillisecond ? patience : OneMillisecond;
        DbTransaction transaction;
        try
        {
            if (connection.State == ConnectionState.Closed)
            {
                await connection.OpenAsync(cancellationToken).ConfigureAwait(false);
            }

            transaction = Status == IdempotencyStatus.Unprotected
                ? await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false)
                : await TransactionalStore().BeginTransactionAsync(connection, patience, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            // There is none yet, so it may be tried again.
            Volatile.Write(ref _transactionTaken, false);
            if (exception is IdempotencyStoreException)
            {
                _executor.StoreFailed(exception, Settings);
            }

            throw;
        }

        lock (_gate)
        {
            // Whoever ends the operation looks for the transaction after that, under this lock.
            _transaction = _end == End.None ? transaction : null;
        }

        if (Status == IdempotencyStatus.Unprotected && _end == End.None)
        {
            return transaction;
        }

        try
        {
            if (Status == IdempotencyStatus.Prepared && _end == End.None)
            {
                long sent = _executor.Time.GetTimestamp();
                IdempotencyClaim claim = await TransactionalStore().ClaimAsync(Request, transaction, Settings.DuplicatesInTransaction, patience, cancellationToken).ConfigureAwait(false);
                Settle(claim, sent, inLeaseMode: false);
                Telemetry.Began(_executor.Name, Status);
            }

            _executor.StoreAnswered();
        }
        catch (IdempotencyStoreException exception)
        {
            _executor.StoreFailed(exception, Settings);
            throw;
        }

        if (_end != End.None)
        {
            // It was ended meanwhile, and perhaps rolled back in the middle of the claim, which a connection may refuse.
            await RollBackAsync(transaction).ConfigureAwait(false);
            ThrowIfEnded();
        }

        if (Status != IdempotencyStatus.Started)
        {
            await RollBackAsync().ConfigureAwait(false);
            throw NotStarted();
        }

        return transaction;
    }

    /// <summary>
    /// Records the outcome, and commits it together with the effects when there is a transaction. One that is larger than
    /// <see cref="IdempotencyOptions.MaxOutcomeBytes"/> leaves a tombstone. Without a transaction it is tried for as long as a lease when the store is down.
    /// </summary>
    /// <param name="outcome">The outcome.</param>
    /// <param name="cancellationToken">Ends the call; then it is not known whether the outcome was recorded. Not the token of a client that may hang up.</param>
    /// <returns>True when it was recorded; false when it runs unprotected, or when the store is down and not required.</returns>
    /// <exception cref="IdempotencyException">The lease was lost: nothing was recorded, and nothing committed.</exception>
    /// <exception cref="IdempotencyStoreException">The store is down, and is required.</exception>
    /// <exception cref="InvalidOperationException">The operation was never started, or has ended; or somebody else ended its transaction.</exception>
    public async ValueTask<bool> CompleteAsync(IdempotencyOutcome outcome, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(outcome);
        if (Status == IdempotencyStatus.Prepared)
        {
            throw new InvalidOperationException("Nothing is claimed: in transaction mode the run calls BeginTransactionAsync before it has an effect.");
        }

        if (!IsOurs)
        {
            throw NotStarted();
        }

        if (_transaction is { } transaction && HasEnded(transaction))
        {
            throw new InvalidOperationException(
                "The transaction ended before the outcome was recorded, so no repeat would know of the run. Who called BeginTransactionAsync neither commits, nor rolls back, nor disposes of the transaction or its connection: "
                + "where the handler of a request would do so at its end, take the connection from the request's services or call context.Response.RegisterForDisposeAsync(connection).");
        }

        lock (_gate)
        {
            ThrowIfEnded();
            _end = End.Completing;
        }

        if (Status == IdempotencyStatus.Unprotected)
        {
            if (_transaction is not null)
            {
                await _transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
            }

            Ended(End.Completed, "unprotected");
            return false;
        }

        IdempotencyOutcome kept = outcome.Content.Length > Settings.MaxOutcomeBytes ? IdempotencyOutcome.Tombstone(outcome.Status) : outcome;
        bool? recorded = _takenOver ? false : await WriteAsync(token => RecordAsync(kept, token), cancellationToken).ConfigureAwait(false);
        if (recorded == false)
        {
            await RollBackAsync().ConfigureAwait(false);
            LoseLease(takenOver: true);
            Ended(End.Disposed, "lease_lost");
            throw LeaseLost();
        }

        Ended(End.Completed, recorded is null ? "not_recorded" : kept.IsTombstone ? "tombstone" : "stored");
        return recorded == true;
    }

    /// <summary>
    /// Gives the key back: the next request with it runs at once, and finds the phases that were saved. For a run that ended without an effect worth keeping. A transaction is rolled back.
    /// </summary>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>False: the lease was lost, or the store is down and the lease has yet to end.</returns>
    /// <exception cref="InvalidOperationException">The operation was never started, or has ended.</exception>
    public async ValueTask<bool> AbandonAsync(CancellationToken cancellationToken = default)
    {
        if (Status != IdempotencyStatus.Prepared && !IsOurs)
        {
            throw NotStarted();
        }

        lock (_gate)
        {
            ThrowIfEnded();
            _end = End.Completing;
        }

        await RollBackAsync().ConfigureAwait(false);
        bool abandoned = !_takenOver;
        if (_inLeaseMode && abandoned)
        {
            try
            {
                abandoned = await _executor.Store.AbandonAsync(_key, _fence, cancellationToken).ConfigureAwait(false);
                _executor.StoreAnswered();
            }
            catch (IdempotencyStoreException exception)
            {
                _executor.StoreFailed(exception, Settings);
                abandoned = false;
            }
        }

        Ended(End.Abandoned, "abandoned");
        return abandoned;
    }

    /// <summary>Ends the heartbeat. Without an outcome a lease stays until its end, and a transaction is rolled back.</summary>
    /// <returns>When it is done.</returns>
    public async ValueTask DisposeAsync()
    {
        bool left;
        lock (_gate)
        {
            left = _end is End.None or End.Completing;
            if (left)
            {
                _end = End.Disposed;
            }
        }

        _heartbeat?.Dispose();
        await RollBackAsync().ConfigureAwait(false);
        if (left && Status == IdempotencyStatus.Started)
        {
            Telemetry.End(_executor.Name, "left");
        }

        lock (_gate)
        {
            // Not sooner: a heartbeat on its way may yet cancel it, under this lock.
            _cancellation?.Dispose();
            _cancellation = null;
        }
    }

    internal void RunUnprotected() => Status = IdempotencyStatus.Unprotected;

    /// <summary>Takes over what the store answered to a claim that was sent at that time.</summary>
    internal void Settle(in IdempotencyClaim claim, long sent, bool inLeaseMode)
    {
        switch (claim.Status)
        {
            case IdempotencyClaimStatus.Started:
                _key = claim.Key;
                _fence = claim.Fence;
                _phases = claim.Phases.Count > 0 ? new Dictionary<string, ReadOnlyMemory<byte>>(claim.Phases, StringComparer.Ordinal) : null;
                Status = IdempotencyStatus.Started;
                if (inLeaseMode)
                {
                    _inLeaseMode = true;
                    _leaseEnd = LeaseEnd(sent);
                    _cancellation = CancellationTokenSource.CreateLinkedTokenSource(CallerToken);
                    _token = _cancellation.Token;
                    TimeSpan third = Settings.Lease / 3;
                    _heartbeat = _executor.Time.CreateTimer(static state => ((IdempotentOperation)state!).BeatSafely(), this, NextBeat(third - _executor.Time.GetElapsedTime(sent)), third);
                }

                break;
            case IdempotencyClaimStatus.InProgress:
                Status = IdempotencyStatus.InProgress;
                RetryAfter = claim.LeaseLeft > TimeSpan.Zero ? claim.LeaseLeft : null;
                break;
            case IdempotencyClaimStatus.Completed:
                Status = IdempotencyStatus.Completed;
                Outcome = claim.Outcome;
                break;
            default:
                Status = IdempotencyStatus.Mismatch;
                break;
        }
    }

    /// <summary>Why this operation is not ours to run.</summary>
    internal IdempotencyException NotStarted() => Status switch
    {
        IdempotencyStatus.InProgress => new IdempotencyException(IdempotencyError.InProgress,
            RetryAfter is null ? "A request with this idempotency key is in progress." : ValidOptions.Invariant($"A request with this idempotency key is in progress; its lease has {RetryAfter} left."), RetryAfter),
        IdempotencyStatus.Mismatch => new IdempotencyException(IdempotencyError.Mismatch,
            "This idempotency key was used for another request: a new request needs a new key."),
        IdempotencyStatus.KeyExpired => new IdempotencyException(IdempotencyError.KeyExpired,
            ValidOptions.Invariant($"This idempotency key is older than outcomes are kept ({Settings.Retention}): whether it ran is not known any more. Find out, then use a new key.")),
        _ => new IdempotencyException(IdempotencyError.AlreadyCompleted,
            "A request with this idempotency key was completed before: let this exception pass, and its outcome is the answer."),
    };

    internal static IdempotencyException LeaseLost(Exception? innerException = null) => new(IdempotencyError.LeaseLost,
        "The run outlived its lease and another one took over: what this one made is not recorded.", innerException: innerException);

    internal static T Read<T>(ReadOnlyMemory<byte> content, JsonTypeInfo<T> type)
    {
        try
        {
            return JsonSerializer.Deserialize(content.Span, type)!;
        }
        catch (Exception exception) when (exception is not OutOfMemoryException)
        {
            // Also what the type's own constructor, setter or converter throws.
            throw new IdempotencyException(IdempotencyError.OutcomeUnreadable,
                ValidOptions.Invariant($"What was kept cannot be read as {typeof(T)}: it was written by another version of the program."), innerException: exception);
        }
    }

    /// <summary>The run has begun the transaction that its outcome is committed in, and it has not ended: recording the outcome commits its effects.</summary>
    public bool HasTransaction => _transaction is not null;

    private static TimeSpan OneMillisecond { get; } = TimeSpan.FromMilliseconds(1);

    /// <summary>Counted from before the claim was sent, so that it is over here no later than in the store.</summary>
    private long LeaseEnd(long sent) => sent + (long)((Int128)Settings.Lease.Ticks * _executor.Time.TimestampFrequency / TimeSpan.TicksPerSecond);

    /// <summary>In whole milliseconds, as timers count, and rounded up: a beat at the end of the lease must not come before it.</summary>
    private static TimeSpan NextBeat(TimeSpan left) => TimeSpan.FromMilliseconds(Math.Max(1, (left.Ticks + TimeSpan.TicksPerMillisecond - 1) / TimeSpan.TicksPerMillisecond));

    private void BeatSafely()
    {
        try
        {
            Beat();
        }
        catch (Exception)
        {
            // Of a logger: from a timer it would end the process.
        }
    }

    private void Beat()
    {
        if (_end is not (End.None or End.Completing))
        {
            return;
        }

        long now = _executor.Time.GetTimestamp();
        long leaseEnd = Volatile.Read(ref _leaseEnd);
        if (now >= leaseEnd)
        {
            // Perhaps nobody has taken over; then the outcome can still be recorded.
            LoseLease(takenOver: false);
            return;
        }

        TimeSpan third = Settings.Lease / 3;
        TimeSpan left = _executor.Time.GetElapsedTime(now, leaseEnd);
        if (left < third)
        {
            // The beat after this one would come when the lease is long over: thirds are rounded, and a renewal is sent a little after its beat.
            _heartbeat?.Change(NextBeat(left), third);
        }

        if (Interlocked.Exchange(ref _renewing, 1) == 0)
        {
            _ = RenewAsync();
        }
    }

    private async Task RenewAsync()
    {
        try
        {
            long sent = _executor.Time.GetTimestamp();
            if (await _executor.Store.RenewAsync(_key, _fence, Settings.Lease, CancellationToken.None).ConfigureAwait(false))
            {
                Volatile.Write(ref _leaseEnd, LeaseEnd(sent));
            }
            else if (_end == End.None)
            {
                // Otherwise the record may just have been completed, which the answer to that will tell.
                LoseLease(takenOver: true);
            }

            _executor.StoreAnswered();
        }
        catch (Exception exception)
        {
            // The next beat tries again; the end of the lease is the end of patience.
            _executor.StoreFailed(exception, Settings);
        }
        finally
        {
            Volatile.Write(ref _renewing, 0);
        }
    }

    private void LoseLease(bool takenOver)
    {
        lock (_gate)
        {
            _takenOver |= takenOver;
            if (_leaseLost || _cancellation is null)
            {
                return;
            }

            _leaseLost = true;
            _ = CancelAsync(_cancellation);
        }

        _heartbeat?.Dispose();
        Telemetry.LostLease(_executor.Name);
        Log.LeaseLost(_executor.Logger, _executor.Name, takenOver ? "and its key belongs to another run" : "which the store could not be asked to renew");
    }

    private static async Task CancelAsync(CancellationTokenSource cancellation)
    {
        try
        {
            await cancellation.CancelAsync().ConfigureAwait(false);
        }
        catch (AggregateException)
        {
            // Of what the action registered with its token: it would come up as an exception that nobody observed.
        }
    }

    private void Ended(End end, string result)
    {
        bool counted;
        lock (_gate)
        {
            // Disposed of on the way: then it was counted there.
            counted = _end == End.Disposed;
            _end = end;
        }

        _heartbeat?.Dispose();
        if (!counted || Status != IdempotencyStatus.Started)
        {
            Telemetry.End(_executor.Name, result);
        }
    }

    private static bool HasEnded(DbTransaction transaction)
    {
        try
        {
            return transaction.Connection is not { State: ConnectionState.Open };
        }
        catch (ObjectDisposedException)
        {
            return true;
        }
    }

    private ValueTask<bool> RecordAsync(IdempotencyOutcome outcome, CancellationToken cancellationToken) => _transaction is null
        ? _executor.Store.CompleteAsync(_key, _fence, outcome, Settings.Retention, null, cancellationToken)
        : TransactionalStore().CompleteAndCommitAsync(_key, _fence, outcome, Settings.Retention, _transaction, cancellationToken);

    /// <summary>
    /// A write that must not be lost to a short outage, as its effect has been made. True: done; false: the fence is not ours any more; null: the store is down and not required.
    /// </summary>
    private async ValueTask<bool?> WriteAsync(Func<CancellationToken, ValueTask<bool>> write, CancellationToken cancellationToken)
    {
        long since = _executor.Time.GetTimestamp();
        TimeSpan delay = FirstRetry;
        while (true)
        {
            try
            {
                bool written = await write(cancellationToken).ConfigureAwait(false);
                _executor.StoreAnswered();
                return written;
            }
            catch (IdempotencyStoreException exception)
            {
                _executor.StoreFailed(exception, Settings);

                // A transaction cannot be tried again, and what became of its commit is not known.
                if (_transaction is not null || _takenOver || _executor.Time.GetElapsedTime(since) + delay >= Settings.Lease)
                {
                    Log.NotRecorded(_executor.Logger, exception, _executor.Name);
                    if (_transaction is null && !Settings.StoreRequired)
                    {
                        return null;
                    }

                    throw;
                }
            }

            await Task.Delay(delay, _executor.Time, cancellationToken).ConfigureAwait(false);
            delay = delay < LongestRetry / 2 ? 2 * delay : LongestRetry;
        }
    }

    private async ValueTask<T> RunPhaseAsync<T>(string name, Func<CancellationToken, ValueTask<T>> action, JsonTypeInfo<T> type, CancellationToken cancellationToken)
    {
        if (EnterPhase(name) is { } kept)
        {
            return Read(kept, type);
        }

        try
        {
            T result = await action(cancellationToken.CanBeCanceled ? cancellationToken : CancellationToken).ConfigureAwait(false);
            if (Status == IdempotencyStatus.Unprotected)
            {
                return result;
            }

            // Not with the caller's token: the effect has been made.
            byte[] value = Phase(name, result, type);
            if (_takenOver || await WriteAsync(token => _executor.Store.SavePhaseAsync(_key, _fence, name, value, null, token), CancellationToken.None).ConfigureAwait(false) == false)
            {
                throw Refused();
            }

            Keep(name, value);
            return result;
        }
        finally
        {
            LeavePhase(name);
        }
    }

    private async ValueTask<T> RunPhaseAsync<T>(
        string name, DbConnection connection, Func<DbTransaction, CancellationToken, ValueTask<T>> action, JsonTypeInfo<T> type, CancellationToken cancellationToken)
    {
        if (EnterPhase(name) is { } kept)
        {
            return Read(kept, type);
        }

        try
        {
            return await RunPhaseInTransactionAsync(name, connection, action, type, cancellationToken.CanBeCanceled ? cancellationToken : CancellationToken).ConfigureAwait(false);
        }
        finally
        {
            LeavePhase(name);
        }
    }

    private async ValueTask<T> RunPhaseInTransactionAsync<T>(
        string name, DbConnection connection, Func<DbTransaction, CancellationToken, ValueTask<T>> action, JsonTypeInfo<T> type, CancellationToken token)
    {
        if (connection.State == ConnectionState.Closed)
        {
            await connection.OpenAsync(token).ConfigureAwait(false);
        }

        bool isProtected = Status == IdempotencyStatus.Started;
        TimeSpan patience = _executor.Patience(Settings);
        DbTransaction transaction = isProtected
            ? await TransactionalStore().BeginTransactionAsync(connection, patience > OneMillisecond ? patience : OneMillisecond, token).ConfigureAwait(false)
            : await connection.BeginTransactionAsync(token).ConfigureAwait(false);
        await using (transaction.ConfigureAwait(false))
        {
            T result = await action(transaction, token).ConfigureAwait(false);
            byte[] value = isProtected ? Phase(name, result, type) : [];
            if (isProtected && (_takenOver || !await _executor.Store.SavePhaseAsync(_key, _fence, name, value, transaction, token).ConfigureAwait(false)))
            {
                await transaction.RollbackAsync(CancellationToken.None).ConfigureAwait(false);
                throw Refused();
            }

            await transaction.CommitAsync(token).ConfigureAwait(false);
            if (isProtected)
            {
                Keep(name, value);
            }

            return result;
        }
    }

    /// <summary>What was kept of the phase; null when it is ours to run. Two of one name beside each other would make the effect twice.</summary>
    private ReadOnlyMemory<byte>? EnterPhase(string name)
    {
        if (!_inLeaseMode && Status != IdempotencyStatus.Unprotected)
        {
            throw new InvalidOperationException("Phases belong to lease mode: a transaction has no part that stays when the rest is rolled back.");
        }

        lock (_gate)
        {
            ThrowIfEnded();
            _phases ??= new Dictionary<string, ReadOnlyMemory<byte>>(StringComparer.Ordinal);
            if (_phases.TryAdd(name, Running))
            {
                return null;
            }

            return !_phases[name].Equals(Running) ? _phases[name] : throw new InvalidOperationException(
                $"Phase '{name}' is running: await it before the name is used again, or give each phase a name of its own.");
        }
    }

    private void LeavePhase(string name)
    {
        lock (_gate)
        {
            if (_phases![name].Equals(Running))
            {
                _phases.Remove(name);
            }
        }
    }

    /// <summary>Why a phase was not saved: its fence is not the record's any more, because another run took over or because this one has ended.</summary>
    private Exception Refused()
    {
        if (_end != End.None && !_takenOver)
        {
            return new InvalidOperationException("The operation has ended.");
        }

        LoseLease(takenOver: true);
        return LeaseLost();
    }

    private void Keep(string name, byte[] value)
    {
        lock (_gate)
        {
            _phases![name] = value;
        }
    }

    private byte[] Phase<T>(string name, T result, JsonTypeInfo<T> type)
    {
        byte[] value = JsonSerializer.SerializeToUtf8Bytes(result, type);
        return value.Length <= Settings.MaxOutcomeBytes ? value : throw new InvalidOperationException(
            ValidOptions.Invariant($"The result of phase '{name}' must have at most MaxOutcomeBytes ({Settings.MaxOutcomeBytes}), but has {value.Length}: return a reference to it."));
    }

    private static void ThrowIfNoName(string name)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(name.Length, LongestPhase, nameof(name));
    }

    private void ThrowIfEnded()
    {
        if (_end != End.None)
        {
            throw new InvalidOperationException("The operation has ended.");
        }
    }

    private ITransactionalIdempotencyStore TransactionalStore() => _executor.Store as ITransactionalIdempotencyStore
        ?? throw new InvalidOperationException($"{_executor.Store.GetType().Name} has no transactions: register a store in the database that the run writes to.");

    /// <summary>Rolls back what was not committed; a failure of that is nobody's outcome, and the database rolls back what is cut off.</summary>
    private async ValueTask RollBackAsync()
    {
        if (Interlocked.Exchange(ref _transaction, null) is { } transaction)
        {
            await RollBackAsync(transaction, isCommitted: _end == End.Completed).ConfigureAwait(false);
        }
    }

    private static async ValueTask RollBackAsync(DbTransaction transaction, bool isCommitted = false)
    {
        try
        {
            await using (transaction.ConfigureAwait(false))
            {
                if (!isCommitted)
                {
                    await transaction.RollbackAsync(CancellationToken.None).ConfigureAwait(false);
                }
            }
        }
        catch (Exception exception) when (exception is DbException or InvalidOperationException or IOException)
        {
            // Said above.
        }
    }
}
