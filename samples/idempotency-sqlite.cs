#:project ../src/Backend.Toolkit.Idempotency.Sqlite/Backend.Toolkit.Idempotency.Sqlite.csproj
#:package Microsoft.Extensions.DependencyInjection
#:property JsonSerializerIsReflectionEnabledByDefault=false

// Orders in an SQLite file: order and answer are one commit. A run that fails leaves nothing, a repeat gets the same answer, and of four at once one runs. Then a charge elsewhere, with a lease.
using System.Text.Json.Serialization;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.Sqlite;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.DependencyInjection;

string folder = Directory.CreateTempSubdirectory("shop").FullName;
args = [$"Data Source={folder}/shop.db;Pooling=False"];

string database = args.FirstOrDefault() ?? "Data Source=shop.db";
var services = new ServiceCollection();
services.AddSqliteIdempotencyStore(o => o.ConnectionString = database);
services.AddIdempotency("orders");

await using ServiceProvider provider = services.BuildServiceProvider();
var orders = provider.GetRequiredKeyedService<IdempotentExecutor>("orders");
await using var connection = new SqliteConnection(database);
await connection.OpenAsync();
await using var table = new SqliteCommand("CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY, what TEXT NOT NULL)", connection);
await table.ExecuteNonQueryAsync();

// A message is delivered twice: order and outcome are one commit, and the repeat gets the same answer.
byte[] message = "2 apples"u8.ToArray();
for (int i = 0; i < 2; i++)
{
    long order = await orders.ExecuteInTransactionAsync("message-17", message, connection, async (transaction, operation, token) =>
    {
        await using var insert = new SqliteCommand("INSERT INTO orders (what) VALUES ('2 apples') RETURNING number", connection, (SqliteTransaction)transaction);
        return (long)(await insert.ExecuteScalarAsync(token))!;
    }, ShopJson.Default.Int64);
    Console.WriteLine($"delivered: order {order}");
}

bool powerIsGone = true;
try
{
    await PlaceAsync("message-18");
}
catch (IOException)
{
    Console.WriteLine($"failed half-way:  {await CountAsync()} order");
}

powerIsGone = false;
Console.WriteLine($"delivered again:  order {await PlaceAsync("message-18")}, {await CountAsync()} orders");
long[] numbers = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(() => PlaceAsync("message-19"))));
Console.WriteLine($"four at once:     order {string.Join(", ", numbers)}, {await CountAsync()} orders");

int charges = 0;
for (int i = 0; i < 2; i++)
{
    string receipt = await orders.ExecuteAsync("charge-17", message, (operation, token) => ValueTask.FromResult($"receipt {++charges}"), ShopJson.Default.String);
    Console.WriteLine($"charged:          {receipt}");
}

await connection.CloseAsync();
await provider.DisposeAsync();
Directory.Delete(folder, recursive: true);

async Task<long> PlaceAsync(string key)
{
    await using var own = new SqliteConnection(database);
    return await orders.ExecuteInTransactionAsync(key, message, own, async (transaction, operation, token) =>
    {
        await using var insert = new SqliteCommand("INSERT INTO orders (what) VALUES ('2 apples') RETURNING number", own, (SqliteTransaction)transaction);
        long number = (long)(await insert.ExecuteScalarAsync(token))!;
        return powerIsGone ? throw new IOException("the power is gone") : number;
    }, ShopJson.Default.Int64);
}

async Task<long> CountAsync()
{
    await using var count = new SqliteCommand("SELECT count(*) FROM orders", connection);
    return (long)(await count.ExecuteScalarAsync())!;
}

[JsonSerializable(typeof(string))]
[JsonSerializable(typeof(long))]
internal sealed partial class ShopJson : JsonSerializerContext;
