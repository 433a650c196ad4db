namespace Backend.Toolkit.Idempotency.Sqlite;

/// <summary>
/// Who waits for which run. Runs that this store ends wake at once. For those that other processes, or the caller's own commits, end, one loop looks while somebody waits: cheaply at whether anybody else has committed, and only then
/// at the records.
/// </summary>
internal sealed class Waits
{
    private readonly Lock _gate = new();
    private readonly Dictionary<(IdempotencyDigest Key, long Fence), Waiters> _waits = [];
    private bool _isLooking;

    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _waits.Count;
            }
        }
    }

    /// <returns>What ends with the run, and whether the caller is to start the loop.</returns>
    public (Task Ended, bool StartsLooking) Join(IdempotencyDigest key, long fence)
    {
        lock (_gate)
        {
            if (!_waits.TryGetValue((key, fence), out Waiters? waiters))
            {
                _waits.Add((key, fence), waiters = new Waiters());
            }

            waiters.Count++;
            bool starts = !_isLooking;
            _isLooking = true;
            return (waiters.Ended.Task, starts);
        }
    }

    public void Leave(IdempotencyDigest key, long fence, Task ended)
    {
        lock (_gate)
        {
            // Woken ones are gone already, and others may wait anew.
            if (_waits.TryGetValue((key, fence), out Waiters? waiters) && waiters.Ended.Task == ended && --waiters.Count == 0)
            {
                _waits.Remove((key, fence));
            }
        }
    }

    public void Wake(IdempotencyDigest key, long fence)
    {
        Waiters? waiters;
        lock (_gate)
        {
            _waits.Remove((key, fence), out waiters);
        }

        waiters?.Ended.TrySetResult();
    }

    /// <returns>Empty: nobody waits, and the loop ends.</returns>
    public (IdempotencyDigest Key, long Fence)[] LookOrStop()
    {
        lock (_gate)
        {
            _isLooking = _waits.Count > 0;
            return [.. _waits.Keys];
        }
    }

    private sealed class Waiters
    {
        public int Count { get; set; }

        public TaskCompletionSource Ended { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
