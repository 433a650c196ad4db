#:project ../src/Backend.Toolkit.Idempotency/Backend.Toolkit.Idempotency.csproj
#:package Microsoft.Extensions.DependencyInjection
#:property JsonSerializerIsReflectionEnabledByDefault=false

// Idempotency: a message that is delivered twice, a key that is used for something else, a run that dies half-way, and one that takes too long.
using System.Text.Json.Serialization;
using Backend.Toolkit.Idempotency;
using Microsoft.Extensions.DependencyInjection;

// 1. In a container: memory will do for one process; a shop with several takes PostgreSQL, SQLite or Redis.
var services = new ServiceCollection();
services.AddMemoryIdempotencyStore(o => o.MaxRecords = 10_000);
services.AddIdempotency("orders", o =>
{
    o.Lease = TimeSpan.FromSeconds(1);
    o.Duplicates = DuplicatePolicy.WaitAndReplay;
});

await using ServiceProvider provider = services.BuildServiceProvider();
var orders = provider.GetRequiredKeyedService<IdempotentExecutor>("orders");
byte[] message = "2 apples"u8.ToArray();

// Stands for somebody else's service; a message is delivered twice, and charged once.
int charges = 0;
ValueTask<string> ChargeAsync(string key, CancellationToken token) => new($"charge {++charges} under {key}");
for (int i = 0; i < 2; i++)
{
    Order order = await orders.ExecuteAsync("message-17", message, async (operation, token) =>
    {
        string charge = await operation.PhaseAsync("charge", ct => ChargeAsync(operation.DownstreamKey("charge"), ct), ShopJson.Default.String, token);
        return new Order(4711, charge);
    }, ShopJson.Default.Order);
    Console.WriteLine($"Delivered: {order}");
}

// 2. The same key for another message.
try
{
    await orders.ExecuteAsync("message-17", "200 apples"u8.ToArray(), (operation, token) => ValueTask.CompletedTask);
}
catch (IdempotencyException exception) when (exception.Error == IdempotencyError.Mismatch)
{
    Console.WriteLine($"Another message:    {exception.Message}");
}

// 3. A run that dies after its charge: who takes over goes on behind the last phase.
async ValueTask<Order> PlaceAsync(IdempotentOperation operation, bool dies, CancellationToken token)
{
    string charge = await operation.PhaseAsync("charge", ct => ChargeAsync(operation.DownstreamKey("charge"), ct), ShopJson.Default.String, token);
    await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, token);
    return dies ? throw new IOException("the power is gone") : new Order(4712, charge);
}

try
{
    await orders.ExecuteAsync("message-18", message, (operation, token) => PlaceAsync(operation, dies: true, token), ShopJson.Default.Order);
}
catch (IOException)
{
}

Order takenOver = await orders.ExecuteAsync("message-18", message, (operation, token) => PlaceAsync(operation, dies: false, token), ShopJson.Default.Order);
Console.WriteLine($"Taken over:         order {takenOver.Number} after its lease, {charges - 1} charge");

// 4. Eight at once: one runs, seven wait for its result.
Order[] same = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(async () =>
    await orders.ExecuteAsync("message-19", message, (operation, token) => PlaceAsync(operation, dies: false, token), ShopJson.Default.Order))));
Console.WriteLine($"Eight at once:      {same.Distinct().Count()} order, {charges - 2} charge");

internal sealed record Order(int Number, string Charge);

[JsonSerializable(typeof(Order))]
[JsonSerializable(typeof(string))]
internal sealed partial class ShopJson : JsonSerializerContext;
