namespace Backend.Toolkit.Idempotency.Sqlite;

/// <content>Waits.</content>
public sealed partial class SqliteIdempotencyStore
{
    /// <summary>How often the file is looked at while somebody waits.</summary>
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(25);

    /// <summary>What the timers of .NET take.</summary>
    private static readonly TimeSpan LongestTimer = TimeSpan.FromDays(24);

    private readonly Waits _waits = new();

    internal int Waiting => _waits.Count;

    /// <inheritdoc/>
    public async ValueTask WaitAsync(IdempotencyDigest key, long fence, TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (timeout <= TimeSpan.Zero)
        {
            return;
        }

        long start = _time.GetTimestamp();
        (Task ended, bool starts) = _waits.Join(key, fence);
        try
        {
            if (starts)
            {
                _ = LookAsync();
            }

            // After joining, so that no end falls between the two.
            if (!await ReadAsync(session => _records.IsOwned(session, key, fence), cancellationToken).ConfigureAwait(false))
            {
                return;
            }

            TimeSpan left = timeout - _time.GetElapsedTime(start);
            if (left > TimeSpan.Zero)
            {
                await ended.WaitAsync(left < LongestTimer ? left : LongestTimer, _time, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                cancellationToken.ThrowIfCancellationRequested();
            }
        }
        finally
        {
            _waits.Leave(key, fence, ended);
        }
    }

    /// <summary>Runs while anybody waits. What cannot be read now is looked at again; each wait ends by itself.</summary>
    private async Task LookAsync()
    {
        long? seen = null;
        while (_waits.LookOrStop() is { Length: > 0 } waits)
        {
            try
            {
                seen = await ReadAsync(session => Wake(session, waits, seen), _closing.Token).ConfigureAwait(false);
            }
            catch (IdempotencyStoreException)
            {
                seen = null;
            }
            catch (Exception exception) when (exception is ObjectDisposedException or OperationCanceledException)
            {
                foreach ((IdempotencyDigest key, long fence) in waits)
                {
                    _waits.Wake(key, fence);
                }

                continue;
            }

            await Task.Delay(Look, _time, _closing.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>The version is read first: a commit that falls between it and the records is seen the next time.</summary>
    private long Wake(Session session, (IdempotencyDigest Key, long Fence)[] waits, long? seen)
    {
        long version = (long)session.Scalar(Statements.Version)!;
        if (version != seen)
        {
            foreach ((IdempotencyDigest key, long fence) in waits)
            {
                if (!_records.IsOwned(session, key, fence))
                {
                    _waits.Wake(key, fence);
                }
            }
        }

        return version;
    }
}
