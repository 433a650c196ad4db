namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>Wakes the one who waits; a wake that comes while nobody waits is kept, several are one.</summary>
internal sealed class Wakeup(TimeProvider timeProvider)
{
    private readonly Lock _lock = new();
    private TaskCompletionSource _set = New();

    public void Set()
    {
        lock (_lock)
        {
            _set.TrySetResult();
        }
    }

    /// <returns>False: the time is over, or the wait was cancelled.</returns>
    public async Task<bool> WaitAsync(TimeSpan timeout, CancellationToken cancellationToken)
    {
        Task set;
        lock (_lock)
        {
            set = _set.Task;
        }

        if (!set.IsCompleted && !cancellationToken.IsCancellationRequested)
        {
            using var over = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            await Task.WhenAny(set, Task.Delay(timeout, timeProvider, over.Token)).ConfigureAwait(false);
            await over.CancelAsync().ConfigureAwait(false);
        }

        lock (_lock)
        {
            if (!_set.Task.IsCompleted)
            {
                return false;
            }

            _set = New();
            return true;
        }
    }

    private static TaskCompletionSource New() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
