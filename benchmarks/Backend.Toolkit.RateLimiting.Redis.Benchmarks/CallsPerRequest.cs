using Backend.Toolkit.RateLimiting;
using Backend.Toolkit.RateLimiting.Redis;
using Backend.Toolkit.Tests;
using StackExchange.Redis;

/// <summary>How many calls a request costs with leases of 100: ten nodes, 2 000 a second, burst 2 000, at several loads, for five seconds each; the calls are counted on the server.</summary>
internal static class CallsPerRequest
{
    private const int Nodes = 10;
    private const int Rate = 2000;

    public static async Task<int> RunAsync()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        Console.WriteLine("| load | requests | calls | calls per request | admitted, of what the limit allows | refused |");
        Console.WriteLine("|---|---|---|---|---|---|");
        foreach (double load in new[] { 0.75, 1.25, 5 })
        {
            await using ConnectionMultiplexer connection = await server.ConnectAsync();
            Console.WriteLine(await RunAsync(connection, load));
        }

        return 0;
    }

    private static async Task<string> RunAsync(ConnectionMultiplexer connection, double load)
    {
        var options = new RedisTokenBucketLimiterOptions<string>
        {
            Name = FormattableString.Invariant($"load-{load}"),
            Connection = connection,
            KeySelector = key => key,
            LeaseSize = 100,
            Nodes = () => Nodes,
            StoreTimeout = TimeSpan.FromSeconds(1),
        };
        options.Limits.Add(new RateLimit(Rate, TimeSpan.FromSeconds(1), 2000));
        RedisTokenBucketLimiter<string>[] nodes = [.. Enumerable.Range(0, Nodes).Select(_ => new RedisTokenBucketLimiter<string>(options))];
        long before = await CallsAsync(connection), start = TimeProvider.System.GetTimestamp();
        List<Task<bool>> requests = [];
        TimeSpan elapsed;
        while ((elapsed = TimeProvider.System.GetElapsedTime(start)) < TimeSpan.FromSeconds(5))
        {
            while (requests.Count < elapsed.TotalSeconds * Rate * load)
            {
                requests.Add(AskAsync(nodes[Random.Shared.Next(Nodes)]));
            }

            await Task.Delay(1);
        }

        bool[] admitted = await Task.WhenAll(requests);
        long calls = await CallsAsync(connection) - before;
        double allowed = Math.Min(admitted.Length, 2000 + (Rate * elapsed.TotalSeconds));
        return FormattableString.Invariant(
            $"| {load} | {admitted.Length} | {calls} | 1/{admitted.Length / (double)calls:F0} | {admitted.Count(it => it) / allowed:P1} | {admitted.Count(it => !it)} |");
    }

    private static async Task<bool> AskAsync(RedisTokenBucketLimiter<string> node) => (await node.AcquireDecisionAsync("one")).IsAdmitted;

    private static async Task<long> CallsAsync(ConnectionMultiplexer connection) =>
        (await connection.GetServers()[0].InfoAsync("commandstats")).SelectMany(group => group)
            .Where(stat => stat.Key is "cmdstat_evalsha" or "cmdstat_eval").Sum(stat => long.Parse(stat.Value.Split("calls=")[1].Split(',')[0]));
}
