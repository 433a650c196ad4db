using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace Backend.Toolkit.Idempotency.Sqlite;

/// <content>Opening the file, and waiting for its writer's lock.</content>
public sealed partial class SqliteIdempotencyStore
{
    /// <summary>In seconds, for what is busy although it should not be: while another process recovers the log, say. Zero would be for ever.</summary>
    private const int DriverTimeout = 1;

    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(1);
    private static readonly TimeSpan LongestPause = TimeSpan.FromMilliseconds(10);

    private static string? File(SqliteConnection connection) => raw.sqlite3_db_filename(connection.Handle, "main").utf8_to_string();

    private static void Check(SqliteConnection connection, int code)
    {
        if (code != raw.SQLITE_OK)
        {
            SqliteException.ThrowExceptionForRC(code, connection.Handle);
        }
    }

    /// <summary>By who has entered the lane.</summary>
    private Session Open(Lane lane)
    {
        ObjectDisposedException.ThrowIf(lane.IsDisposed, this);
        if (lane.Session is { } open)
        {
            return open;
        }

        var connection = new SqliteConnection(_connectionString);
        try
        {
            connection.Open();
            Check(connection, raw.sqlite3_busy_timeout(connection.Handle, 0));
            var session = new Session(connection, null, DriverTimeout);
            session.Execute($"PRAGMA synchronous = {_synchronous}");
            return lane.Session = session;
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    /// <summary>The first time: runs the script, and looks whether the file is what it must be.</summary>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <param name="holdsLock">Whether the caller's transaction may hold the lock that the script needs, so that waiting for it would be waiting for the caller.</param>
    private async ValueTask ReadyAsync(CancellationToken cancellationToken, bool holdsLock = false)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (_file is not null)
        {
            return;
        }

        long start = _time.GetTimestamp();
        await _writer.EnterAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (_file is not null)
            {
                return;
            }

            Session session = Open(_writer);
            if (_createSchema && ((long)session.Scalar(_sql.Exists)! < 3 || !IsWal(session)))
            {
                if (holdsLock)
                {
                    throw new IdempotencyStoreException("The store's tables are not there yet, and cannot be made while a transaction is under way: begin it with BeginTransactionAsync of the store, or run SqliteIdempotencyStore.Script(table) before.");
                }

                await LockAsync(session.Connection, _sql.Script, start, _settings.BusyTimeout, cancellationToken).ConfigureAwait(false);
            }

            if ((long)session.Scalar(_sql.Exists)! < 3)
            {
                throw new IdempotencyStoreException("The tables are not there: run SqliteIdempotencyStore.Script(table), or let CreateSchema be true.");
            }

            if (!IsWal(session))
            {
                throw new IdempotencyStoreException("The database must be in WAL mode, so that repeats need not wait for writers: run PRAGMA journal_mode = WAL, and keep the file on a local disk.");
            }

            _file = File(session.Connection);
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

        static bool IsWal(Session session) => session.Scalar("PRAGMA journal_mode") is "wal";
    }

    /// <summary>Runs what takes the writer's lock, until it gets it. SQLite itself would block a thread; so would the driver.</summary>
    private async ValueTask LockAsync(SqliteConnection connection, string sql, long start, TimeSpan timeout, CancellationToken cancellationToken)
    {
        for (TimeSpan pause = FirstPause; ; pause = pause < LongestPause ? 2 * pause : LongestPause)
        {
            int code = raw.sqlite3_exec(connection.Handle, sql);
            if ((code & 0xff) is not (raw.SQLITE_BUSY or raw.SQLITE_LOCKED))
            {
                Check(connection, code);
                return;
            }

            TimeSpan left = timeout - _time.GetElapsedTime(start);
            if (left <= TimeSpan.Zero)
            {
                throw Busy(timeout);
            }

            await Task.Delay(left < pause ? left : pause, _time, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask EnterAsync(SemaphoreSlim gate, TimeSpan timeout, CancellationToken cancellationToken)
    {
        if (gate.Wait(TimeSpan.Zero, CancellationToken.None))
        {
            return;
        }

        using var over = new CancellationTokenSource(timeout, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(over.Token, cancellationToken);
        try
        {
            await gate.WaitAsync(either.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw Busy(timeout);
        }
    }

    private static IdempotencyStoreException Busy(TimeSpan timeout) => new(FormattableString.Invariant(
        $"Another writer has held the file's lock for {timeout}: SQLite has one writer at a time, so transactions that write must be short."));
}
