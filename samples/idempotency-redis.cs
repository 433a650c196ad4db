#:project ../src/Backend.Toolkit.Idempotency.Redis/Backend.Toolkit.Idempotency.Redis.csproj
#:package Microsoft.Extensions.DependencyInjection
#:property JsonSerializerIsReflectionEnabledByDefault=false

// Two nodes that get the same message at once, and a third that gets it later; then the store is killed.
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text.Json.Serialization;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.Redis;
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
    args = [$"127.0.0.1:{port},abortConnect=false"];
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
    services.AddRedisIdempotencyStore(o => o.KeyPrefix = "shop:");
    services.AddIdempotency("orders", o => o.Duplicates = DuplicatePolicy.WaitAndReplay);

    await using ServiceProvider provider = services.BuildServiceProvider();
    var orders = provider.GetRequiredKeyedService<IdempotentExecutor>("orders");
    byte[] message = "2 apples"u8.ToArray();

    // A message is delivered twice, and handled once.
    int runs = 0;
    for (int i = 0; i < 2; i++)
    {
        string order = await orders.ExecuteAsync("message-17", message, (operation, token) => ValueTask.FromResult($"order {4710 + ++runs}"), ShopJson.Default.String);
        Console.WriteLine($"delivered: {order}, {runs} run");
    }

    await using ServiceProvider node1 = services.BuildServiceProvider(), node2 = services.BuildServiceProvider(), node3 = services.BuildServiceProvider();
    int charges = 0;
    string[] at = await Task.WhenAll(PlaceAsync(node1), PlaceAsync(node2));
    Console.WriteLine($"two nodes at once:  {at[0]} and {at[1]}, {charges} charge");
    Console.WriteLine($"a third node later: {await PlaceAsync(node3)}, {charges} charge");

    server!.Kill();
    server.WaitForExit();
    try
    {
        await PlaceAsync(node1);
    }
    catch (IdempotencyStoreException exception)
    {
        Console.WriteLine($"store killed:       {exception.GetType().Name}, {charges} charge");
    }

    async Task<string> PlaceAsync(ServiceProvider node)
    {
        IdempotentExecutor executor = node.GetRequiredKeyedService<IdempotentExecutor>("orders");
        return await executor.ExecuteAsync("message-18", message, async (operation, token) =>
        {
            await Task.Delay(50, token);
            return $"order {4711 + Interlocked.Increment(ref charges)}";
        }, ShopJson.Default.String);
    }
}
finally
{
    if (server is { HasExited: false })
    {
        server.Kill();
    }
}

[JsonSerializable(typeof(string))]
internal sealed partial class ShopJson : JsonSerializerContext;
