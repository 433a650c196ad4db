namespace Backend.Toolkit.TimeoutBudgets.Tests;

internal static class Eventually
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    /// <summary>Waits for what other threads are about to do.</summary>
    public static void BeTrue(Func<bool> condition, string because) => SpinWait.SpinUntil(condition, Patience).Should().BeTrue(because);

    /// <summary>A task that hangs fails its test instead of the run.</summary>
    public static Task<T> Soon<T>(this Task<T> task) => task.WaitAsync(Patience);

    public static Task Soon(this Task task) => task.WaitAsync(Patience);
}
