namespace Backend.Toolkit.Idempotency.Redis;

/// <summary>A channel that somebody waits on. <see cref="Waiters"/> and <see cref="Closed"/> are guarded by the lock of <see cref="Channels"/>.</summary>
internal sealed class Channel(string name)
{
    private TaskCompletionSource _next = NewNext();

    public string Name => name;

    public int Waiters { get; set; } = 1;

    /// <summary>The server has the subscription.</summary>
    public Task Ready { get; set; } = Task.CompletedTask;

    /// <summary>It has none any more.</summary>
    public Task Closed { get; set; } = Task.CompletedTask;

    /// <summary>The next message; taken before looking at the record, so that none is missed.</summary>
    public Task Next => Volatile.Read(ref _next).Task;

    public void Receive(StackExchange.Redis.RedisChannel from, StackExchange.Redis.RedisValue message) => Interlocked.Exchange(ref _next, NewNext()).TrySetResult();

    private static TaskCompletionSource NewNext() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
