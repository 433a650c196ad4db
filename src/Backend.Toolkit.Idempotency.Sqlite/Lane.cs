using Microsoft.Data.Sqlite;

namespace Backend.Toolkit.Idempotency.Sqlite;

/// <summary>A connection of the store's own, used by one at a time, in the order of asking; opened when it is first used, and again after it failed.</summary>
internal sealed class Lane : IAsyncDisposable
{
    private readonly SemaphoreSlim _gate = new(1, 1);

    /// <summary>Null: it is to be opened. Guarded by the gate.</summary>
    public Session? Session { get; set; }

    public bool IsDisposed { get; private set; }

    /// <summary>Waits for its turn without blocking.</summary>
    public async ValueTask EnterAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        await _gate.WaitAsync(cancellationToken).ConfigureAwait(false);
    }

    public void Leave() => _gate.Release();

    /// <summary>After a failure, since what the connection is good for is not known; by who has entered.</summary>
    public void Close()
    {
        Session? session = Session;
        Session = null;
        try
        {
            session?.Close();
        }
        catch (SqliteException)
        {
            // It is gone all the same.
        }
    }

    /// <summary>The gate stays: who waits for it is told that the store is gone.</summary>
    public async ValueTask DisposeAsync()
    {
        await EnterAsync(CancellationToken.None).ConfigureAwait(false);
        IsDisposed = true;
        Close();
        Leave();
    }
}
