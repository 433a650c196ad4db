using System.Buffers.Binary;
using System.Data;
using System.Data.Common;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using static Backend.Toolkit.Idempotency.PostgreSql.Parameters;

namespace Backend.Toolkit.Idempotency.PostgreSql;

/// <summary>
/// Records in a table of PostgreSQL. Each verb is one statement in one round trip, decided by the server's clock; a claim takes a second one only when another was committed while it ran. In transaction mode the
/// claim is in the caller's transaction, a duplicate waits at the unique index or is turned away by an advisory lock, and outcome and COMMIT are one round trip. A repeat writes nothing. Expired records are deleted in
/// small batches. Waits are ended by NOTIFY, which only a run that somebody waits for sends, as its lock serialises commits. Thread-safe; any number of nodes and applications.
/// </summary>
public sealed partial class PostgreSqlIdempotencyStore : ITransactionalIdempotencyStore, IAsyncDisposable
{
    /// <summary>How long a claim that is not to wait does so for what others have not committed.</summary>
    private static readonly TimeSpan ShortWait = TimeSpan.FromSeconds(1);

    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly NpgsqlDataSource _dataSource;
    private readonly bool _ownsDataSource;
    private readonly Statements _sql;
    private readonly string _table;
    private readonly SemaphoreSlim _preparing = new(1, 1);
    private readonly CancellationTokenSource _closing = new();
    private readonly Listener _listener;
    private volatile PostgreSqlIdempotencyStoreOptions _options;
    private volatile bool _ready;
    private int _disposed;

    /// <summary>A store over a table, which it creates when it is first used and the table is not there.</summary>
    /// <param name="options">Where the records are.</param>
    /// <param name="timeProvider">For waits and the cleanup's timer; expiry is the server's. Default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Hears when expired records cannot be deleted, and when listening broke.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options have problems; the message tells all of them.</exception>
    public PostgreSqlIdempotencyStore(PostgreSqlIdempotencyStoreOptions options, TimeProvider? timeProvider = null, ILogger<PostgreSqlIdempotencyStore>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        _time = timeProvider ?? TimeProvider.System;
        _logger = logger ?? NullLogger<PostgreSqlIdempotencyStore>.Instance;
        _ownsDataSource = options.DataSource is null;
        _dataSource = options.DataSource ?? new NpgsqlSlimDataSourceBuilder(options.ConnectionString).EnableTransportSecurity().EnableIntegratedSecurity().Build();
        _sql = new Statements(options.Schema, options.Table);
        _table = $"{options.Schema}.{options.Table}";
        _options = Copy(options);
        Name = options.Name;
        _ready = !options.CreateSchema;
        _listener = new Listener(_dataSource, _sql.Channel, exception => Log.ListeningBroke(_logger, exception, Name), _closing.Token);
        _cleanup = _time.CreateTimer(static store => ((PostgreSqlIdempotencyStore)store!).OnCleanupDue(), this, NextCleanup(), Timeout.InfiniteTimeSpan);
    }

    /// <summary>The name in the options.</summary>
    public string Name { get; }

    /// <summary>What creates the table, for you to run where the application may not. May be run again, and by several at once.</summary>
    /// <param name="schema">See <see cref="PostgreSqlIdempotencyStoreOptions.Schema"/>.</param>
    /// <param name="table">See <see cref="PostgreSqlIdempotencyStoreOptions.Table"/>.</param>
    /// <returns>Statements for one transaction.</returns>
    /// <exception cref="ArgumentException">A name is none.</exception>
    public static string Script(string schema = "public", string table = "idempotency")
    {
        PostgreSqlIdempotencyStoreOptions.ThrowIfNoIdentifiers(schema, table);
        return new Statements(schema, table).Script;
    }

    /// <summary>Gives the live store other options. Where the records are stays as it was.</summary>
    /// <param name="options">The new options.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options have problems; the old ones stay in force.</exception>
    public void Update(PostgreSqlIdempotencyStoreOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        bool another = options.CleanupInterval != _options.CleanupInterval;
        _options = Copy(options);
        if (another)
        {
            _cleanup.Change(NextCleanup(), Timeout.InfiniteTimeSpan);
        }
    }

    /// <inheritdoc/>
    public async ValueTask<IdempotencyClaim> BeginAsync(IdempotencyClaimRequest request, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        await ReadyAsync(null, cancellationToken).ConfigureAwait(false);
        bool again = false;
        while (true)
        {
            try
            {
                NpgsqlConnection connection = await _dataSource.OpenOwnAsync(cancellationToken).ConfigureAwait(false);
                await using (connection.ConfigureAwait(false))
                {
                    return await ClaimAsync(request, connection, null, null, ShortWait, cancellationToken).ConfigureAwait(false);
                }
            }
            catch (Exception exception) when (!again && exception is NpgsqlException && IsBroken(exception))
            {
                // Most likely a pooled connection that a restart or failover broke. If the claim was made all the same, the second says that it is in progress.
                again = true;
            }
            catch (PostgresException exception) when (exception.SqlState is PostgresErrorCodes.LockNotAvailable or PostgresErrorCodes.DeadlockDetected)
            {
                return IdempotencyClaim.InProgress(request.Key, 0, TimeSpan.Zero);
            }
            catch (PostgresException exception) when (exception.SqlState is PostgresErrorCodes.SerializationFailure)
            {
                // The role's default isolation is above read committed, and another claim was committed meanwhile: a new snapshot shows it.
            }
            catch (Exception exception) when (IsOutage(exception, null))
            {
                throw Down(exception);
            }
        }
    }

    /// <inheritdoc/>
    public ValueTask<bool> RenewAsync(IdempotencyDigest key, long fence, TimeSpan lease, CancellationToken cancellationToken = default) =>
        WriteAsync(_sql.Renew, null, cancellationToken, Key(key), Number(fence), Seconds(lease));

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The transaction is none of Npgsql, or has ended.</exception>
    public ValueTask<bool> SavePhaseAsync(IdempotencyDigest key, long fence, string phase, ReadOnlyMemory<byte> value, DbTransaction? transaction = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(phase);
        return WriteAsync(_sql.SavePhase, transaction, cancellationToken, Key(key), Number(fence), Bytes(PhaseLog.Entry(phase, value.Span)));
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The transaction is none of Npgsql, or has ended.</exception>
    public ValueTask<bool> CompleteAsync(IdempotencyDigest key, long fence, IdempotencyOutcome outcome, TimeSpan retention, DbTransaction? transaction = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(outcome);
        return WriteAsync(_sql.Complete, transaction, cancellationToken, Outcome(key, fence, outcome, retention));
    }

    /// <inheritdoc/>
    public ValueTask<bool> AbandonAsync(IdempotencyDigest key, long fence, CancellationToken cancellationToken = default) =>
        WriteAsync(_sql.Abandon, null, cancellationToken, Key(key), Number(fence));

    /// <summary>Begins a transaction that is read committed: what a claim waited for must be seen by the next statement.</summary>
    /// <param name="connection">An open connection of Npgsql to the store's database.</param>
    /// <param name="lockTimeout">Not used: beginning takes no lock.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The transaction; <c>BEGIN</c> travels with the first statement in it.</returns>
    /// <exception cref="ArgumentException">The connection is none of Npgsql.</exception>
    /// <exception cref="IdempotencyStoreException">The store is down.</exception>
    public async ValueTask<DbTransaction> BeginTransactionAsync(DbConnection connection, TimeSpan lockTimeout, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(connection);
        cancellationToken.ThrowIfCancellationRequested();
        NpgsqlConnection own = connection as NpgsqlConnection
            ?? throw new ArgumentException($"The connection must be an NpgsqlConnection to the store's database, but is a {connection.GetType().Name}.", nameof(connection));
        await ReadyAsync(own, cancellationToken).ConfigureAwait(false);
        try
        {
            return await own.BeginTransactionAsync(IsolationLevel.ReadCommitted, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception) when (IsOutage(exception, own))
        {
            throw Down(exception);
        }
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The transaction is none of Npgsql, has ended, or is not read committed.</exception>
    /// <exception cref="IdempotencyStoreException">The store is down.</exception>
    public async ValueTask<IdempotencyClaim> ClaimAsync(IdempotencyClaimRequest request, DbTransaction transaction, DuplicatePolicy duplicates, TimeSpan lockTimeout, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(transaction);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(lockTimeout, TimeSpan.Zero);
        cancellationToken.ThrowIfCancellationRequested();
        NpgsqlTransaction own = Own(transaction);
        NpgsqlConnection connection = own.Connection!;
        if (own.IsolationLevel != IsolationLevel.ReadCommitted)
        {
            throw new ArgumentException($"The transaction must be read committed, so that it sees what a claim waited for, but is {own.IsolationLevel}: begin it with BeginTransactionAsync of the store.", nameof(transaction));
        }

        // Who waited and then became the owner has no advisory lock, so who is to be rejected may meet him at the index.
        TimeSpan patience = duplicates == DuplicatePolicy.Reject ? ShortWait : LongestTimer;
        lockTimeout = lockTimeout < patience ? lockTimeout : patience;
        await ReadyAsync(connection, cancellationToken).ConfigureAwait(false);
        try
        {
            return await ClaimAsync(request, connection, own, duplicates, lockTimeout, cancellationToken).ConfigureAwait(false);
        }
        catch (PostgresException exception) when (exception.SqlState is PostgresErrorCodes.LockNotAvailable or PostgresErrorCodes.DeadlockDetected
            or PostgresErrorCodes.QueryCanceled or PostgresErrorCodes.DivisionByZero)
        {
            // A deadlock is one of waits for another's claim and for what the transaction did before. Cancelled, but not by the token: a shorter statement_timeout. Division: TryPair.
            return IdempotencyClaim.InProgress(request.Key, 0, TimeSpan.Zero);
        }
        catch (Exception exception) when (IsOutage(exception, connection))
        {
            throw Down(exception);
        }
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The transaction is none of Npgsql, or has ended.</exception>
    /// <exception cref="IdempotencyStoreException">The store is down; it is not known whether the commit was made.</exception>
    /// <exception cref="PostgresException">The database refused the commit, for a deferred constraint of the application's, say. Nothing was committed.</exception>
    public async ValueTask<bool> CompleteAndCommitAsync(IdempotencyDigest key, long fence, IdempotencyOutcome outcome, TimeSpan retention, DbTransaction transaction, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(outcome);
        ArgumentNullException.ThrowIfNull(transaction);
        cancellationToken.ThrowIfCancellationRequested();
        NpgsqlTransaction own = Own(transaction);
        NpgsqlConnection connection = own.Connection!;
        bool written = false;
        try
        {
            var batch = new NpgsqlBatch(connection, own);
            await using (batch.ConfigureAwait(false))
            {
                batch.BatchCommands.Add(Statement(_sql.CompleteForCommit, Outcome(key, fence, outcome, retention)));
                batch.BatchCommands.Add(new NpgsqlBatchCommand("COMMIT"));
                await PrepareAsync(batch, cancellationToken).ConfigureAwait(false);
                NpgsqlDataReader reader = await batch.ExecuteReaderAsync(CommandBehavior.Default, cancellationToken).ConfigureAwait(false);
                await using (reader.ConfigureAwait(false))
                {
                    // What fails from here on is the COMMIT.
                    written = true;
                    await reader.NextResultAsync(cancellationToken).ConfigureAwait(false);
                }

                return true;
            }
        }
        catch (PostgresException exception) when (!written && exception.SqlState == PostgresErrorCodes.DivisionByZero)
        {
            return false;
        }
        catch (PostgresException exception) when (written && !IsOfServer(exception))
        {
            throw;
        }
        catch (Exception exception) when (IsOutage(exception, connection))
        {
            throw Down(exception);
        }
    }

    /// <summary>Ends the cleanup and the listening; a data source that the store made for itself is closed.</summary>
    /// <returns>When it is done.</returns>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        await _closing.CancelAsync().ConfigureAwait(false);
        await _cleanup.DisposeAsync().ConfigureAwait(false);
        await Volatile.Read(ref _cleaning).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _listener.DisposeAsync().ConfigureAwait(false);
        if (_ownsDataSource)
        {
            await _dataSource.DisposeAsync().ConfigureAwait(false);
        }
    }

    private async ValueTask<IdempotencyClaim> ClaimAsync(
        IdempotencyClaimRequest request, NpgsqlConnection connection, NpgsqlTransaction? transaction, DuplicatePolicy? duplicates, TimeSpan lockTimeout, CancellationToken cancellationToken)
    {
        bool isPair = request.PreviousKey is { } other && other != request.Key;
        var batch = new NpgsqlBatch(connection, transaction);
        await using (batch.ConfigureAwait(false))
        {
            long advisoryLock = AdvisoryLock(request, isPair);
            if (isPair)
            {
                if (transaction is null)
                {
                    batch.BatchCommands.Add(new NpgsqlBatchCommand(Statements.ReadCommitted));
                }

                batch.BatchCommands.Add(Statement(duplicates == DuplicatePolicy.Reject ? Statements.TryPair : Statements.WaitForPair, Number(advisoryLock), Milliseconds(lockTimeout)));
            }

            NpgsqlBatchCommand claim = Statement(
                transaction is null ? isPair ? _sql.BeginPair : _sql.Begin : isPair ? _sql.ClaimPair : _sql.Claim,
                Key(request.Key), Bytes(request.Fingerprint.ToArray()), Seconds(request.Lease), Seconds(request.Lease > request.Retention ? request.Lease : request.Retention), Milliseconds(lockTimeout));
            if (transaction is not null)
            {
                claim.Parameters.Add(Number(advisoryLock));

                // For two keys the statement ahead has decided it.
                claim.Parameters.Add(Flag(!isPair && duplicates == DuplicatePolicy.Reject));
            }

            if (isPair)
            {
                claim.Parameters.Add(Key(request.PreviousKey!.Value));
            }

            batch.BatchCommands.Add(claim);
            if (batch.Timeout > 0)
            {
                batch.Timeout += (int)Math.Ceiling(lockTimeout.TotalSeconds);
            }

            await PrepareAsync(batch, cancellationToken).ConfigureAwait(false);
            while (true)
            {
                NpgsqlDataReader reader = await batch.ExecuteReaderAsync(CommandBehavior.Default, cancellationToken).ConfigureAwait(false);
                await using (reader.ConfigureAwait(false))
                {
                    if (isPair)
                    {
                        await reader.NextResultAsync(cancellationToken).ConfigureAwait(false);
                    }

                    await reader.ReadAsync(cancellationToken).ConfigureAwait(false);
                    if (Read(reader, request) is { } answer)
                    {
                        return answer;
                    }
                }

                cancellationToken.ThrowIfCancellationRequested();
            }
        }
    }

    /// <returns>Null: another claim was committed while this one ran, and the next statement will see it.</returns>
    private static IdempotencyClaim? Read(NpgsqlDataReader reader, in IdempotencyClaimRequest request)
    {
        if (reader.IsDBNull(1))
        {
            return reader.GetBoolean(8) ? null : IdempotencyClaim.InProgress(request.Key, 0, TimeSpan.Zero);
        }

        IdempotencyDigest key = reader.GetBoolean(2) ? request.PreviousKey!.Value : request.Key;
        return reader.GetInt32(1) switch
        {
            0 => IdempotencyClaim.Started(key, reader.GetInt64(3), reader.IsDBNull(7) ? null : PhaseLog.Read(reader.GetFieldValue<byte[]>(7))),
            1 => IdempotencyClaim.InProgress(key, reader.GetInt64(3), TimeSpan.FromSeconds(reader.GetDouble(4))),
            2 => IdempotencyClaim.Completed(key, reader.IsDBNull(6) ? IdempotencyOutcome.Tombstone(reader.GetInt32(5)) : new IdempotencyOutcome(reader.GetInt32(5), reader.GetFieldValue<byte[]>(6))),
            _ => IdempotencyClaim.Mismatch(key),
        };
    }

    /// <summary>A statement that gives a row when it was done, on a connection of the store's own or in the caller's transaction.</summary>
    private async ValueTask<bool> WriteAsync(string sql, DbTransaction? transaction, CancellationToken cancellationToken, params NpgsqlParameter[] parameters)
    {
        cancellationToken.ThrowIfCancellationRequested();
        NpgsqlTransaction? own = transaction is null ? null : Own(transaction);
        NpgsqlConnection? callers = own?.Connection;
        await ReadyAsync(callers, cancellationToken).ConfigureAwait(false);
        try
        {
            if (callers is not null)
            {
                return await WriteAsync(sql, callers, own, parameters, cancellationToken).ConfigureAwait(false);
            }

            NpgsqlConnection connection = await _dataSource.OpenOwnAsync(cancellationToken).ConfigureAwait(false);
            await using (connection.ConfigureAwait(false))
            {
                return await WriteAsync(sql, connection, null, parameters, cancellationToken).ConfigureAwait(false);
            }
        }
        catch (Exception exception) when (IsOutage(exception, callers))
        {
            throw Down(exception);
        }
    }

    private async ValueTask<bool> WriteAsync(string sql, NpgsqlConnection connection, NpgsqlTransaction? transaction, NpgsqlParameter[] parameters, CancellationToken cancellationToken)
    {
        var batch = new NpgsqlBatch(connection, transaction);
        await using (batch.ConfigureAwait(false))
        {
            batch.BatchCommands.Add(Statement(sql, parameters));
            await PrepareAsync(batch, cancellationToken).ConfigureAwait(false);
            return await batch.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false) is not null;
        }
    }

    /// <summary>No round trip where the connection knows the statements already.</summary>
    private Task PrepareAsync(NpgsqlBatch batch, CancellationToken cancellationToken) => _options.Prepare ? batch.PrepareAsync(cancellationToken) : Task.CompletedTask;

    /// <summary>Once: the table is there, or the script is run. A role that may not create is not asked to where it need not.</summary>
    /// <param name="callers">The caller's connection, which is asked first: who has the last one of the pool would wait for another in vain.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    private ValueTask ReadyAsync(NpgsqlConnection? callers, CancellationToken cancellationToken) => _ready ? ValueTask.CompletedTask : CreateAsync(callers, cancellationToken);

    private async ValueTask CreateAsync(NpgsqlConnection? callers, CancellationToken cancellationToken)
    {
        await _preparing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (_ready || (callers is not null && await ExistsAsync(callers, cancellationToken).ConfigureAwait(false)))
            {
                _ready = true;
                return;
            }

            NpgsqlConnection connection = await _dataSource.OpenOwnAsync(cancellationToken).ConfigureAwait(false);
            await using (connection.ConfigureAwait(false))
            {
                if (!await ExistsAsync(connection, cancellationToken).ConfigureAwait(false))
                {
                    var script = new NpgsqlCommand(_sql.Script, connection);
                    await using (script.ConfigureAwait(false))
                    {
                        await script.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
                    }
                }
            }

            _ready = true;
        }
        catch (Exception exception) when (IsOutage(exception, callers))
        {
            throw Down(exception);
        }
        finally
        {
            _preparing.Release();
        }
    }

    private async ValueTask<bool> ExistsAsync(NpgsqlConnection connection, CancellationToken cancellationToken)
    {
        var exists = new NpgsqlCommand("SELECT to_regclass($1) IS NOT NULL", connection);
        await using (exists.ConfigureAwait(false))
        {
            exists.Parameters.Add(Text(_sql.Table));
            return await exists.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false) is true;
        }
    }

    private NpgsqlTransaction Own(DbTransaction transaction)
    {
        NpgsqlTransaction own = transaction as NpgsqlTransaction
            ?? throw new ArgumentException($"The transaction must be an NpgsqlTransaction of the store's database, but is a {transaction.GetType().Name}. Of EF Core give transaction.GetDbTransaction().", nameof(transaction));
        try
        {
            // Both throw when it has ended.
            return own.Connection is null || own.IsolationLevel == IsolationLevel.Unspecified ? throw new InvalidOperationException() : own;
        }
        catch (ObjectDisposedException exception)
        {
            // The driver disposes of it when the connection breaks.
            throw new IdempotencyStoreException($"The idempotency store '{Name}' cannot use the transaction: its connection broke, or it was disposed of.", exception);
        }
        catch (InvalidOperationException exception)
        {
            throw new ArgumentException("The transaction must be open, but was committed or rolled back.", nameof(transaction), exception);
        }
    }

    /// <summary>What the driver throws where the store cannot answer. On a connection of the caller's that broke before, that is an InvalidOperationException.</summary>
    private static bool IsOutage(Exception exception, NpgsqlConnection? callers) =>
        exception is NpgsqlException or TimeoutException or IOException || (exception is InvalidOperationException and not ObjectDisposedException && callers is { State: not ConnectionState.Open });

    private static bool IsBroken(Exception exception) => exception is PostgresException server
        ? server.SqlState is PostgresErrorCodes.AdminShutdown or PostgresErrorCodes.CrashShutdown
        : exception.InnerException is IOException;

    /// <summary>Connection, resources, operator, system: whether it was committed may not be known.</summary>
    private static bool IsOfServer(PostgresException exception) => exception.SqlState is ['0', '8', ..] or ['5', '3' or '7' or '8', ..];

    private IdempotencyStoreException Down(Exception exception) => new(exception is PostgresException { SqlState: PostgresErrorCodes.UndefinedTable or PostgresErrorCodes.UndefinedColumn or PostgresErrorCodes.InsufficientPrivilege }
        ? $"The idempotency store '{Name}' cannot use its table {_table}: run PostgreSqlIdempotencyStore.Script, and grant SELECT, INSERT, UPDATE and DELETE on it. {exception.Message}"
        : $"The idempotency store '{Name}' in PostgreSQL does not answer: {exception.Message}", exception);

    private static PostgreSqlIdempotencyStoreOptions Copy(PostgreSqlIdempotencyStoreOptions options) => new()
    {
        Name = options.Name,
        Listen = options.Listen,
        Prepare = options.Prepare,
        CleanupInterval = options.CleanupInterval,
        CleanupBatch = options.CleanupBatch,
    };

    private long AdvisoryLock(in IdempotencyClaimRequest request, bool isPair)
    {
        Span<byte> key = stackalloc byte[IdempotencyDigest.Size];
        request.Key.CopyTo(key);
        if (isPair)
        {
            // Who has them the other way round must take the same.
            Span<byte> other = stackalloc byte[IdempotencyDigest.Size];
            request.PreviousKey!.Value.CopyTo(other);
            key = key.SequenceCompareTo(other) < 0 ? key : other;
        }

        return BinaryPrimitives.ReadInt64BigEndian(key) ^ _sql.LockSalt;
    }
}
