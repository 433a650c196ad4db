namespace Backend.Toolkit.Idempotency.Sqlite;

/// <content>Expired records.</content>
public sealed partial class SqliteIdempotencyStore
{
    private readonly ITimer _cleanup;
    private Task _cleaning = Task.CompletedTask;
    private bool _cleanupFailed;

    /// <summary>Deletes expired records now, in batches, until one is not full. Each batch is a transaction, and other writers may come between two.</summary>
    /// <param name="cancellationToken">Ends it after the batch under way.</param>
    /// <returns>How many records it deleted.</returns>
    /// <exception cref="IdempotencyStoreException">The file cannot be used, or another writer held its lock too long.</exception>
    public async ValueTask<int> CleanUpAsync(CancellationToken cancellationToken = default)
    {
        int all = 0, batch, deleted;
        do
        {
            batch = _settings.CleanupBatch;
            int most = batch;
            deleted = await WriteAsync(session => _records.CleanUp(session, most), cancellationToken).ConfigureAwait(false);
            all += deleted;
            if (deleted == batch)
            {
                await Task.Delay(FirstPause, _time, cancellationToken).ConfigureAwait(false);
            }
        }
        while (deleted == batch);

        return all;
    }

    private void OnCleanupDue() => Volatile.Write(ref _cleaning, Task.Run(CleanUpAndGoOnAsync));

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

        if (!_closing.IsCancellationRequested)
        {
            _cleanup.Change(NextCleanup(), Timeout.InfiniteTimeSpan);
        }
    }

    /// <summary>Three to five quarters of the interval, so that processes that were started together do not stay together.</summary>
    private TimeSpan NextCleanup()
    {
        TimeSpan interval = _settings.CleanupInterval;
        return interval == Timeout.InfiniteTimeSpan ? interval : interval * (0.75 + (Random.Shared.NextDouble() / 2));
    }
}
