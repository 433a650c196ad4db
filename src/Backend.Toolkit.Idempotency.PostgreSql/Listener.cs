using Npgsql;

namespace Backend.Toolkit.Idempotency.PostgreSql;

/// <summary>
/// One connection that listens on the store's channel, from the first wait on. When it breaks, all who wait are woken and ask again; the first of them makes the next one.
/// The lock guards the waiters and which task is the current one; nothing is awaited under it.
/// </summary>
internal sealed class Listener(NpgsqlDataSource dataSource, string channel, Action<Exception> broke, CancellationToken closing) : IAsyncDisposable
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, List<Waiter>> _waiters = new(StringComparer.Ordinal);
    private Task _started = Task.FromCanceled(new CancellationToken(canceled: true));
    private Task _listening = Task.CompletedTask;

    public Waiter Add(IdempotencyDigest key)
    {
        var waiter = new Waiter(this, key.ToString());
        lock (_gate)
        {
            if (!_waiters.TryGetValue(waiter.Key, out List<Waiter>? waiters))
            {
                _waiters.Add(waiter.Key, waiters = []);
            }

            waiters.Add(waiter);
        }

        return waiter;
    }

    /// <summary>Completes when it listens; one attempt for all who ask meanwhile, which ends with none of their tokens.</summary>
    public Task StartAsync()
    {
        lock (_gate)
        {
            if (_started.IsCompleted && (!_started.IsCompletedSuccessfully || _listening.IsCompleted) && !closing.IsCancellationRequested)
            {
                var listens = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                _started = listens.Task;
                _listening = Task.Run(() => ListenAsync(listens));
            }

            return _started;
        }
    }

    public async ValueTask DisposeAsync()
    {
        Task listening;
        lock (_gate)
        {
            listening = _listening;
        }

        await listening.ConfigureAwait(false);
    }

    private async Task ListenAsync(TaskCompletionSource listens)
    {
        try
        {
            NpgsqlConnection connection = await dataSource.OpenOwnAsync(closing).ConfigureAwait(false);
            await using (connection.ConfigureAwait(false))
            {
                connection.Notification += (_, notification) => Wake(notification.Payload);
                var command = new NpgsqlCommand($"LISTEN {channel}", connection);
                await using (command.ConfigureAwait(false))
                {
                    await command.ExecuteNonQueryAsync(closing).ConfigureAwait(false);
                }

                listens.SetResult();
                while (true)
                {
                    await connection.WaitAsync(closing).ConfigureAwait(false);
                }
            }
        }
        catch (Exception exception)
        {
            // Who asked for it hears why there is none; who waits already asks again.
            if (!listens.TrySetException(exception) && !closing.IsCancellationRequested)
            {
                broke(exception);
            }

            _ = listens.Task.Exception;
            Wake(null);
        }
    }

    /// <param name="key">Null: all.</param>
    private void Wake(string? key)
    {
        List<Waiter> woken = [];
        lock (_gate)
        {
            if (key is null)
            {
                woken.AddRange(_waiters.Values.SelectMany(waiters => waiters));
            }
            else if (_waiters.TryGetValue(key, out List<Waiter>? waiters))
            {
                woken.AddRange(waiters);
            }
        }

        foreach (Waiter waiter in woken)
        {
            waiter.Wake();
        }
    }

    private void Remove(Waiter waiter)
    {
        lock (_gate)
        {
            if (_waiters.TryGetValue(waiter.Key, out List<Waiter>? waiters) && waiters.Remove(waiter) && waiters.Count == 0)
            {
                _waiters.Remove(waiter.Key);
            }
        }
    }

    public sealed class Waiter(Listener listener, string key) : IDisposable
    {
        private readonly TaskCompletionSource _woken = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public string Key => key;

        public Task Woken => _woken.Task;

        public void Wake() => _woken.TrySetResult();

        public void Dispose() => listener.Remove(this);
    }
}
