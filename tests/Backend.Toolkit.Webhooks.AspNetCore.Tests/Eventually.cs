namespace Backend.Toolkit.Webhooks.AspNetCore.Tests;

/// <summary>Bounded waits for what other threads do.</summary>
internal static class Eventually
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    public static void BeTrue(Func<bool> condition, string because) => SpinWait.SpinUntil(condition, Patience).Should().BeTrue(because);

    public static Task<T> Soon<T>(this Task<T> task) => task.WaitAsync(Patience);

    public static Task Soon(this Task task) => task.WaitAsync(Patience);

    /// <summary>A task that only the token ends.</summary>
    public static Task UntilCancelled(CancellationToken token) => Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, token);

    public static TaskCompletionSource Gate() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
