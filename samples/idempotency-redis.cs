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
Process? redis = null;
try
{
    redis = Process.Start(new ProcessStartInfo("redis-server", ["--port", $"{port}", "--bind", "127.0.0.1", "--save", ""]) { RedirectStandardOutput = true });
}
catch (System.ComponentModel.Win32Exception)
{
    Console.WriteLine("redis-server is not installed: nothing to show.");
    return;
}

try
{
    using ConnectionMultiplexer connection = await ConnectionMultiplexer.ConnectAsync($"127.0.0.1:{port},abortConnect=false");
    while (!connection.IsConnected)
    {
        await Task.Delay(10);
    }

    await using ServiceProvider node1 = Node(connection), node2 = Node(connection), node3 = Node(connection);
    int charges = 0;
    byte[] message = "2 apples"u8.ToArray();
    string[] at = await Task.WhenAll(PlaceAsync(node1), PlaceAsync(node2));
    Console.WriteLine($"two nodes at once:  {at[0]} and {at[1]}, {charges} charge");
    Console.WriteLine($"a third node later: {await PlaceAsync(node3)}, {charges} charge");

    redis!.Kill();
    redis.WaitForExit();
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
        IdempotentExecutor orders = node.GetRequiredKeyedService<IdempotentExecutor>("orders");
        return await orders.ExecuteAsync("message-17", message, async (operation, token) =>
        {
            await Task.Delay(50, token);
            return $"order {4711 + Interlocked.Increment(ref charges)}";
        }, ShopJson.Default.String);
    }
}
finally
{
    if (redis is { HasExited: false })
    {
        redis.Kill();
    }
}

static ServiceProvider Node(ConnectionMultiplexer connection)
{
    ServiceCollection services = new();
    services.AddSingleton<IConnectionMultiplexer>(connection);
    services.AddRedisIdempotencyStore(o => o.KeyPrefix = "shop:");
    services.AddIdempotency("orders", o => o.Duplicates = DuplicatePolicy.WaitAndReplay);
    return services.BuildServiceProvider();
}

[JsonSerializable(typeof(string))]
internal sealed partial class ShopJson : JsonSerializerContext;
