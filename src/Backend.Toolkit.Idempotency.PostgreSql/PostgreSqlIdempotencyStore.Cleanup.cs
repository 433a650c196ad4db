using Npgsql;
using static Backend.Toolkit.Idempotency.PostgreSql.Parameters;

namespace Backend.Toolkit.Idempotency.PostgreSql;

public sealed partial class PostgreSqlIdempotencyStore
{
    private readonly ITimer _cleanup;
    private Task _cleaning = Task.CompletedTask;
    private bool _cleanupFailed;
    private bool _isCleaning;

    /// <summary>The round under way, or the last.</summary>
    internal Task Cleaning => Volatile.Read(ref _cleaning);

    /// <summary>Deletes expired records now, in batches, until one is not full. Others may do the same at once: what one has locked the next passes over.</summary>
    /// <param name="cancellationToken">Ends it after the batch under way.</param>
    /// <returns>How many records it deleted.</returns>
    /// <exception cref="IdempotencyStoreException">The store is down.</exception>
    public async ValueTask<int> CleanUpAsync(CancellationToken cancellationToken = default)
    {
        await ReadyAsync(null, cancellationToken).ConfigureAwait(false);
        int all = 0;
        try
        {
            NpgsqlConnection connection = await _dataSource.OpenOwnAsync(cancellationToken).ConfigureAwait(false);
            await using (connection.ConfigureAwait(false))
            {
                int batch, deleted;
                do
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    batch = _options.CleanupBatch;
                    var command = new NpgsqlCommand(_sql.CleanUp, connection);
                    await using (command.ConfigureAwait(false))
                    {
                        command.Parameters.Add(Integer(batch));
                        deleted = await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
                    }

                    all += deleted;
                    Telemetry.Deleted(Name, deleted);
                }
                while (deleted == batch);
            }

            return all;
        }
        catch (Exception exception) when (IsOutage(exception, null))
        {
            throw Down(exception);
        }
    }

    private void OnCleanupDue()
    {
        // A reload may have set the timer anew while a round is under way, which sets it when it ends.
        if (!Interlocked.Exchange(ref _isCleaning, true))
        {
            Volatile.Write(ref _cleaning, CleanUpAndGoOnAsync());
        }
    }

    private async Task CleanUpAndGoOnAsync()
    {
        try
        {
            await CleanUpAsync(_closing.Token).ConfigureAwait(false);
            _cleanupFailed = false;
        }
        catch (Exception exception)
        {
            if (!_cleanupFailed && !_closing.IsCancellationRequested)
            {
                _cleanupFailed = true;
                Log.CleanupFailed(_logger, exception, Name);
            }
        }

        Volatile.Write(ref _isCleaning, false);
        if (!_closing.IsCancellationRequested)
        {
            _cleanup.Change(NextCleanup(), Timeout.InfiniteTimeSpan);
        }
    }

    /// <summary>Three to five quarters of the interval, so that nodes that were started together do not stay together.</summary>
    private TimeSpan NextCleanup() => _options.CleanupInterval == Timeout.InfiniteTimeSpan ? Timeout.InfiniteTimeSpan : _options.CleanupInterval * (0.75 + (Random.Shared.NextDouble() / 2));
}
