#:project ../src/Backend.Toolkit.Idempotency/Backend.Toolkit.Idempotency.csproj
#:package Microsoft.Extensions.DependencyInjection
#:property JsonSerializerIsReflectionEnabledByDefault=false

// Idempotency: a message that is delivered twice, a key that is used for something else, a run that dies half-way, and one that takes too long.
using System.Text;
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
var payments = new Payments();
byte[] message = Encoding.UTF8.GetBytes("2 apples");

Order order = await orders.ExecuteAsync("message-17", message, async (operation, token) =>
{
    string charge = await operation.PhaseAsync("charge", ct => payments.ChargeAsync(operation.DownstreamKey("charge"), 30, ct), ShopJson.Default.String, token);
    return new Order(4711, charge);
}, ShopJson.Default.Order);

Order repeated = await orders.ExecuteAsync("message-17", message, (operation, token) => throw new InvalidOperationException("never called"), ShopJson.Default.Order);
Console.WriteLine($"Delivered twice:    order {order.Number} and order {repeated.Number}, {payments.Calls} charge");

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
    string charge = await operation.PhaseAsync("charge", ct => payments.ChargeAsync(operation.DownstreamKey("charge"), 30, ct), ShopJson.Default.String, token);
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
Console.WriteLine($"Taken over:         order {takenOver.Number} after its lease, {payments.Calls - 1} charge");

// 4. Eight at once: one runs, seven wait for its result.
Order[] same = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(async () =>
    await orders.ExecuteAsync("message-19", message, (operation, token) => PlaceAsync(operation, dies: false, token), ShopJson.Default.Order))));
Console.WriteLine($"Eight at once:      {same.Distinct().Count()} order, {payments.Calls - 2} charge");

internal sealed record Order(int Number, string Charge);

internal sealed class Payments
{
    private int _calls;

    public int Calls => _calls;

    public async ValueTask<string> ChargeAsync(string key, int amount, CancellationToken token)
    {
        await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, token);
        return $"{amount} under {key}, call {Interlocked.Increment(ref _calls)}";
    }
}

[JsonSerializable(typeof(Order))]
[JsonSerializable(typeof(string))]
internal sealed partial class ShopJson : JsonSerializerContext;
