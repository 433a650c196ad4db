using System.Data;
using System.Data.Common;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using SQLitePCL;

namespace Backend.Toolkit.Idempotency.Sqlite;

/// <summary>
/// Records in tables of an SQLite file in WAL mode, which several processes may share; the clock is the machine's. A repeat only reads and waits for no writer. In transaction mode claim, effects and outcome are one commit of the caller's;
/// it holds the file's only writer's lock from its beginning on, so that all other writers wait: for short handlers. Nobody blocks a thread while he waits for the lock. Thread-safe; one instance for each file is enough.
/// </summary>
public sealed partial class SqliteIdempotencyStore : ITransactionalIdempotencyStore, IAsyncDisposable
{
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly string _connectionString;
    private readonly string _synchronous;
    private readonly bool _createSchema;
    private readonly Statements _sql;
    private readonly Records _records;
    private readonly Lane _reader = new();
    private readonly Lane _writer = new();

    /// <summary>Of those who begin transactions here one at a time asks for the lock, in the order of asking.</summary>
    private readonly SemaphoreSlim _beginning = new(1, 1);
    private readonly CancellationTokenSource _closing = new();
    private volatile Settings _settings;

    /// <summary>What SQLite calls the file; null until it was opened.</summary>
    private volatile string? _file;
    private int _disposed;

    /// <summary>A store in a file, which it opens when it is first used.</summary>
    /// <param name="options">Where the records are.</param>
    /// <param name="timeProvider">For waits and the cleanup's timer; expiry is by SQLite's clock. Default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Hears when expired records cannot be deleted.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options have problems; the message tells all of them.</exception>
    public SqliteIdempotencyStore(SqliteIdempotencyStoreOptions options, TimeProvider? timeProvider = null, ILogger<SqliteIdempotencyStore>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        _time = timeProvider ?? TimeProvider.System;
        _logger = logger ?? NullLogger<SqliteIdempotencyStore>.Instance;

        // Pooled connections would keep the file open after the store is gone; in a shared cache who reads is refused what another writes.
        _connectionString = new SqliteConnectionStringBuilder(options.ConnectionString) { Pooling = false, Cache = SqliteCacheMode.Private }.ToString();
        _synchronous = options.SurvivePowerLoss ? "FULL" : "NORMAL";
        _createSchema = options.CreateSchema;
        _sql = new Statements(options.Table);
        _records = new Records(_sql);
        _settings = new Settings(options);
        Name = options.Name;
        _cleanup = _time.CreateTimer(static store => ((SqliteIdempotencyStore)store!).OnCleanupDue(), this, NextCleanup(), Timeout.InfiniteTimeSpan);
    }

    /// <summary>The name in the options.</summary>
    public string Name { get; }

    internal Lane Writer => _writer;

    /// <summary>What creates the tables and lets the file be in WAL mode, for you to run outside a transaction where the application may not. May be run again.</summary>
    /// <param name="table">See <see cref="SqliteIdempotencyStoreOptions.Table"/>.</param>
    /// <returns>The statements.</returns>
    /// <exception cref="ArgumentException">The name is none.</exception>
    public static string Script(string table = "idempotency") => SqliteIdempotencyStoreOptions.IsIdentifier(table)
        ? new Statements(table).Script
        : throw new ArgumentException($"Table must be 1 to 50 letters (a to z), digits and underscores, no digit first, but is '{table}'.", nameof(table));

    /// <summary>Gives the live store other options. Where and how the records are stays as it was.</summary>
    /// <param name="options">The new options.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options have problems; the old ones stay in force.</exception>
    public void Update(SqliteIdempotencyStoreOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        bool another = options.CleanupInterval != _settings.CleanupInterval;
        _settings = new Settings(options);
        if (another)
        {
            _cleanup.Change(NextCleanup(), Timeout.InfiniteTimeSpan);
        }
    }

    /// <inheritdoc/>
    public async ValueTask<IdempotencyClaim> BeginAsync(IdempotencyClaimRequest request, CancellationToken cancellationToken = default) =>
        await ReadAsync(session => _records.Look(session, request), cancellationToken).ConfigureAwait(false)
        ?? await WriteAsync(session => _records.Claim(session, request), cancellationToken).ConfigureAwait(false);

    /// <inheritdoc/>
    public ValueTask<bool> RenewAsync(IdempotencyDigest key, long fence, TimeSpan lease, CancellationToken cancellationToken = default) =>
        WriteAsync(session => _records.Renew(session, key, fence, lease), cancellationToken);

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The transaction is none of this file, or has ended.</exception>
    public async ValueTask<bool> SavePhaseAsync(IdempotencyDigest key, long fence, string phase, ReadOnlyMemory<byte> value, DbTransaction? transaction = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(phase);
        return transaction is null
            ? await WriteAsync(session => _records.SavePhase(session, key, fence, phase, value), cancellationToken).ConfigureAwait(false)
            : await InAsync(transaction, _settings.BusyTimeout, session => _records.SavePhase(session, key, fence, phase, value), cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The transaction is none of this file, or has ended.</exception>
    public async ValueTask<bool> CompleteAsync(IdempotencyDigest key, long fence, IdempotencyOutcome outcome, TimeSpan retention, DbTransaction? transaction = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(outcome);
        if (transaction is not null)
        {
            // Whoever waits is not woken before the commit, which only the caller knows of.
            return await InAsync(transaction, _settings.BusyTimeout, session => _records.Complete(session, key, fence, outcome, retention), cancellationToken).ConfigureAwait(false);
        }

        bool completed = await WriteAsync(session => _records.Complete(session, key, fence, outcome, retention), cancellationToken).ConfigureAwait(false);
        return Woken(completed, key, fence);
    }

    /// <inheritdoc/>
    public async ValueTask<bool> AbandonAsync(IdempotencyDigest key, long fence, CancellationToken cancellationToken = default) =>
        Woken(await WriteAsync(session => _records.Abandon(session, key, fence), cancellationToken).ConfigureAwait(false), key, fence);

    /// <summary>
    /// Begins a transaction that has the file's writer's lock: all other writers, of any table, wait from here to its end. While it waits for the lock it blocks no thread, unless the connection has a busy timeout of its own
    /// (<c>PRAGMA busy_timeout</c>).
    /// </summary>
    /// <param name="connection">An open connection of Microsoft.Data.Sqlite to the store's file.</param>
    /// <param name="lockTimeout">The longest wait for the lock; above zero.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The transaction.</returns>
    /// <exception cref="ArgumentException">The connection is not to this file, or not open.</exception>
    /// <exception cref="IdempotencyStoreException">The lock was not to be had in time, or the file cannot be used.</exception>
    public async ValueTask<DbTransaction> BeginTransactionAsync(DbConnection connection, TimeSpan lockTimeout, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(connection);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(lockTimeout, TimeSpan.Zero);
        cancellationToken.ThrowIfCancellationRequested();
        SqliteConnection own = connection as SqliteConnection
            ?? throw new ArgumentException($"The connection must be a SqliteConnection to the store's file, but is a {connection.GetType().Name}.", nameof(connection));
        await ReadyAsync(cancellationToken).ConfigureAwait(false);
        ThrowIfElsewhere(own, nameof(connection));

        lockTimeout = lockTimeout < LongestTimer ? lockTimeout : LongestTimer;
        long start = _time.GetTimestamp();
        await EnterAsync(_beginning, lockTimeout, cancellationToken).ConfigureAwait(false);
        try
        {
            // Deferred: it takes no lock, so the driver does not block for it. The first write does, without the driver's own waiting.
            SqliteTransaction transaction = own.BeginTransaction(deferred: true);
            try
            {
                await LockAsync(own, _sql.Lock, start, lockTimeout, cancellationToken).ConfigureAwait(false);
                return transaction;
            }
            catch
            {
                await transaction.DisposeAsync().ConfigureAwait(false);
                throw;
            }
        }
        catch (SqliteException exception)
        {
            throw Down(exception);
        }
        finally
        {
            _beginning.Release();
        }
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The transaction is none of this file, or has ended.</exception>
    /// <exception cref="IdempotencyStoreException">The file cannot be used, or the transaction has no writer's lock and did not get it.</exception>
    public ValueTask<IdempotencyClaim> ClaimAsync(IdempotencyClaimRequest request, DbTransaction transaction, DuplicatePolicy duplicates, TimeSpan lockTimeout, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(transaction);
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(lockTimeout, TimeSpan.Zero);

        // Whoever has the lock is the only writer: no other transaction can have claimed the key, so nobody is waited for.
        return InAsync(transaction, lockTimeout, session => _records.Claim(session, request), cancellationToken);
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The transaction is none of this file, or has ended.</exception>
    /// <exception cref="IdempotencyStoreException">The file cannot be used; it is not known whether the commit was made.</exception>
    /// <exception cref="SqliteException">The database refused the commit for a deferred constraint of the application's. Nothing was committed.</exception>
    public async ValueTask<bool> CompleteAndCommitAsync(IdempotencyDigest key, long fence, IdempotencyOutcome outcome, TimeSpan retention, DbTransaction transaction, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(outcome);
        ArgumentNullException.ThrowIfNull(transaction);
        bool committed = await InAsync(
            transaction,
            _settings.BusyTimeout,
            session =>
            {
                if (!_records.Complete(session, key, fence, outcome, retention))
                {
                    return false;
                }

                transaction.Commit();
                return true;
            },
            cancellationToken).ConfigureAwait(false);
        return Woken(committed, key, fence);
    }

    /// <summary>Ends the cleanup and closes the store's connections.</summary>
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
        await _writer.DisposeAsync().ConfigureAwait(false);
        await _reader.DisposeAsync().ConfigureAwait(false);
    }

    private bool Woken(bool done, IdempotencyDigest key, long fence)
    {
        if (done)
        {
            _waits.Wake(key, fence);
        }

        return done;
    }

    /// <summary>In the caller's transaction.</summary>
    private async ValueTask<T> InAsync<T>(DbTransaction transaction, TimeSpan lockTimeout, Func<Session, T> body, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        SqliteTransaction own = transaction as SqliteTransaction
            ?? throw new ArgumentException($"The transaction must be a SqliteTransaction of the store's file, but is a {transaction.GetType().Name}.", nameof(transaction));
        SqliteConnection connection = own.Connection ?? throw new ArgumentException("The transaction has ended.", nameof(transaction));
        await ReadyAsync(cancellationToken, holdsLock: true).ConfigureAwait(false);
        ThrowIfElsewhere(connection, nameof(transaction));
        try
        {
            return body(new Session(connection, own, (int)Math.Ceiling(lockTimeout.TotalSeconds)));
        }
        catch (SqliteException exception) when (exception.SqliteErrorCode != raw.SQLITE_CONSTRAINT)
        {
            throw Down(exception);
        }
        catch (InvalidOperationException exception) when (connection.State == ConnectionState.Open && raw.sqlite3_get_autocommit(connection.Handle) != 0)
        {
            // The driver has heard of it, and refuses: what is written now would be no part of it.
            throw new IdempotencyStoreException("SQLite has rolled the transaction back already, as it does when the disk is full or a statement says OR ROLLBACK. Nothing of it was committed.", exception);
        }
    }

    /// <summary>Waits for nobody but other readers here.</summary>
    private async ValueTask<T> ReadAsync<T>(Func<Session, T> body, CancellationToken cancellationToken)
    {
        await ReadyAsync(cancellationToken).ConfigureAwait(false);
        await _reader.EnterAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            return body(Open(_reader));
        }
        catch (SqliteException exception)
        {
            _reader.Close();
            throw Down(exception);
        }
        finally
        {
            _reader.Leave();
        }
    }

    /// <summary>In a transaction of its own, which has the writer's lock.</summary>
    private async ValueTask<T> WriteAsync<T>(Func<Session, T> body, CancellationToken cancellationToken)
    {
        await ReadyAsync(cancellationToken).ConfigureAwait(false);
        return await LockedAsync(body, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask<T> LockedAsync<T>(Func<Session, T> body, CancellationToken cancellationToken)
    {
        long start = _time.GetTimestamp();
        await _writer.EnterAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            Session session = Open(_writer);
            await LockAsync(session.Connection, "BEGIN IMMEDIATE", start, _settings.BusyTimeout, cancellationToken).ConfigureAwait(false);
            T result;
            try
            {
                result = body(session);
            }
            catch
            {
                // Closing rolls back, too; this keeps the connection when it can be kept.
                _ = raw.sqlite3_exec(session.Connection.Handle, "ROLLBACK");
                throw;
            }

            Check(session.Connection, raw.sqlite3_exec(session.Connection.Handle, "COMMIT"));
            return result;
        }
        catch (SqliteException exception)
        {
            _writer.Close();
            throw Down(exception);
        }
        finally
        {
            _writer.Leave();
        }
    }

    private void ThrowIfElsewhere(SqliteConnection connection, string parameter)
    {
        string? file = connection.State == ConnectionState.Open ? File(connection) : throw new ArgumentException("The connection must be open.", parameter);
        if (file != _file)
        {
            throw new ArgumentException($"The connection must be to the store's database, {_file}, but is to {(string.IsNullOrEmpty(file) ? "one in memory" : file)}.", parameter);
        }
    }

    private static IdempotencyStoreException Down(SqliteException exception) => new($"SQLite cannot use the store's file: {exception.Message}", exception);

    /// <summary>What may change while the store lives.</summary>
    private sealed class Settings(SqliteIdempotencyStoreOptions options)
    {
        public TimeSpan BusyTimeout { get; } = options.BusyTimeout;

        public TimeSpan CleanupInterval { get; } = options.CleanupInterval;

        public int CleanupBatch { get; } = options.CleanupBatch;
    }
}
