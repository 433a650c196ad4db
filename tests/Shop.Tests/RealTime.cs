namespace Shop.Tests;

/// <summary>The one place that lets real time pass: for servers and processes, which know no other.</summary>
internal static class RealTime
{
    /// <param name="condition">Asked every 20 ms.</param>
    /// <param name="what">What is waited for.</param>
    /// <param name="patience">Default: 60 s.</param>
    public static async Task UntilAsync(Func<Task<bool>> condition, string what, TimeSpan? patience = null)
    {
        TimeSpan longest = patience ?? TimeSpan.FromSeconds(60);
        using var limit = new CancellationTokenSource(longest, TimeProvider.System);
        while (!await condition())
        {
            try
            {
                await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, limit.Token);
            }
            catch (OperationCanceledException)
            {
                throw new TimeoutException($"Waited {longest.TotalSeconds} s in vain: {what}.");
            }
        }
    }

    /// <summary>So long, or until it is cancelled.</summary>
    public static Task PassAsync(TimeSpan time, CancellationToken end) => Task.Delay(time, TimeProvider.System, end).ContinueWith(static _ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);

    /// <summary>How long the work takes; never waited for longer than a minute.</summary>
    public static async Task<TimeSpan> MeasureAsync(Func<Task> work)
    {
        long start = TimeProvider.System.GetTimestamp();
        await work().WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System);
        return TimeProvider.System.GetElapsedTime(start);
    }
}
