#:project ../src/Backend.Toolkit.RateLimiting.Redis/Backend.Toolkit.RateLimiting.Redis.csproj
#:package Microsoft.Extensions.DependencyInjection

// A limit that two nodes hold together on Redis, exactly and with leases; then the store is killed, and each node goes on with its share.
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Backend.Toolkit.RateLimiting;
using Backend.Toolkit.RateLimiting.Redis;
using Microsoft.Extensions.DependencyInjection;
using StackExchange.Redis;

// A server of its own, so that it can be killed; Debian: apt-get install redis-server.
var listener = new TcpListener(IPAddress.Loopback, 0);
listener.Start();
int port = ((IPEndPoint)listener.LocalEndpoint).Port;
listener.Stop();
Process? server = null;
try
{
    server = Process.Start(new ProcessStartInfo("redis-server", ["--port", $"{port}", "--bind", "127.0.0.1", "--save", ""]) { RedirectStandardOutput = true });
}
catch (System.ComponentModel.Win32Exception)
{
    Console.WriteLine("redis-server is not installed: nothing to show.");
    return;
}

try
{
    args = [$"127.0.0.1:{port},abortConnect=false,allowAdmin=true"];
    using (ConnectionMultiplexer first = await ConnectionMultiplexer.ConnectAsync(args[0]))
    {
        while (!first.IsConnected)
        {
            await Task.Delay(10);
        }
    }

    ConnectionMultiplexer redis = await ConnectionMultiplexer.ConnectAsync(args.FirstOrDefault() ?? "127.0.0.1,abortConnect=false");
    var services = new ServiceCollection();
    services.AddSingleton<IConnectionMultiplexer>(redis);
    services.AddRedisTokenBucketLimiter<string>("api", tenant => tenant, o =>
    {
        o.Limits.Add(new RateLimit(10, TimeSpan.FromSeconds(1)));
        o.Limits.Add(new RateLimit(10_000, TimeSpan.FromDays(1)));
        o.Nodes = () => 2;
    });

    // The same with leases of 100.
    services.AddRedisTokenBucketLimiter<string>("feed", tenant => tenant, o =>
    {
        o.Limits.Add(new RateLimit(2000, TimeSpan.FromSeconds(1)));
        o.LeaseSize = 100;
        o.Nodes = () => 2;
    });

    await using ServiceProvider provider = services.BuildServiceProvider();
    var api = provider.GetRequiredKeyedService<KeyedRateLimiter<string>>("api");
    for (int i = 0; i < 12; i++)
    {
        RateLimitDecision decision = await api.AcquireDecisionAsync("tenant-0");
        Console.WriteLine(decision.IsAdmitted ? $"admitted, {decision.Remaining} left" : $"refused, the next in {decision.RetryAfter.TotalMilliseconds:0} ms");
    }

    await using ServiceProvider node1 = services.BuildServiceProvider(), node2 = services.BuildServiceProvider();
    Console.WriteLine($"exact: two nodes admitted {await AskAsync("api", "tenant-1", 40, node1, node2)} of 40 at once; the limit says 10");
    Console.WriteLine($"leases: two nodes admitted {await AskAsync("feed", "tenant-1", 2000, node1, node2)} of 2000; calls to Redis so far: {await CallsAsync(redis)}");

    server!.Kill();
    server.WaitForExit();
    Console.WriteLine($"store killed: two nodes admitted {await AskAsync("api", "tenant-2", 40, node1, node2)} of 40; their shares are 5 each");
}
finally
{
    if (server is { HasExited: false })
    {
        server.Kill();
    }
}

static async Task<int> AskAsync(string name, string tenant, int requests, params ServiceProvider[] nodes)
{
    int admitted = 0;
    for (int i = 0; i < requests; i++)
    {
        KeyedRateLimiter<string> limiter = nodes[i % nodes.Length].GetRequiredKeyedService<KeyedRateLimiter<string>>(name);
        RateLimitDecision decision = await limiter.AcquireDecisionAsync(tenant);
        admitted += decision.IsAdmitted ? 1 : 0;
    }

    return admitted;
}

static async Task<string> CallsAsync(ConnectionMultiplexer connection) =>
    (await connection.GetServers()[0].InfoAsync("commandstats")).SelectMany(group => group).Where(stat => stat.Key == "cmdstat_evalsha").Select(stat => stat.Value.Split(',')[0]).FirstOrDefault() ?? "none";
