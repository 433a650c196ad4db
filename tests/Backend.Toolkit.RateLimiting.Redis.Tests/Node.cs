using System.Globalization;
using StackExchange.Redis;

namespace Backend.Toolkit.RateLimiting.Redis.Tests;

/// <summary>A node in a process of its own: asks as fast as it can, from eight callers, for a while.</summary>
internal static class Node
{
    /// <param name="args">Connection string, permits per second, burst, size of a lease, nodes, milliseconds.</param>
    public static async Task<int> RunAsync(string[] args)
    {
        double[] numbers = [.. args[1..].Select(arg => double.Parse(arg, CultureInfo.InvariantCulture))];
        await using ConnectionMultiplexer connection = await ConnectionMultiplexer.ConnectAsync(args[0]);
        using RedisTokenBucketLimiter<string> limiter = Limiters.Make(connection, new RateLimit(numbers[0], TimeSpan.FromSeconds(1), (int)numbers[1]), o =>
        {
            o.Name = "nodes";
            o.LeaseSize = (int)numbers[2];
            o.Nodes = () => (int)numbers[3];
            o.StoreTimeout = TimeSpan.FromSeconds(5);
        });
        Console.WriteLine("ready");
        Console.ReadLine();
        long start = TimeProvider.System.GetTimestamp();
        long admitted = 0;
        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(async () =>
        {
            while (TimeProvider.System.GetElapsedTime(start).TotalMilliseconds < numbers[4])
            {
                RateLimitDecision decision = await limiter.AcquireDecisionAsync("one");
                if (decision.IsAdmitted)
                {
                    Interlocked.Increment(ref admitted);
                }
                else
                {
                    // Callers that are refused come again all the time, but not in a spin.
                    await Task.Delay(TimeSpan.FromMilliseconds(1), TimeProvider.System);
                }
            }
        })));
        Console.WriteLine(admitted);
        return 0;
    }
}
