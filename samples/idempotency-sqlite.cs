#:project ../src/Backend.Toolkit.Idempotency.Sqlite/Backend.Toolkit.Idempotency.Sqlite.csproj
#:package Microsoft.Extensions.DependencyInjection
#:property JsonSerializerIsReflectionEnabledByDefault=false

// Orders in an SQLite file: order and answer are one commit. A run that fails leaves nothing, a repeat gets the same answer, and of four at once one runs. Then a charge elsewhere, with a lease.
using System.Data.Common;
using System.Text.Json.Serialization;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.Sqlite;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.DependencyInjection;

string folder = Directory.CreateTempSubdirectory("shop").FullName;
string database = $"Data Source={folder}/shop.db;Pooling=False";
var services = new ServiceCollection();
services.AddSqliteIdempotencyStore(o => o.ConnectionString = database);
services.AddIdempotency("orders");
await using (ServiceProvider provider = services.BuildServiceProvider())
{
    var orders = provider.GetRequiredKeyedService<IdempotentExecutor>("orders");
    await using (SqliteConnection connection = await OpenAsync())
    {
        await RunAsync(connection, null, "CREATE TABLE orders (number INTEGER PRIMARY KEY, what TEXT NOT NULL)");
    }

    byte[] message = "2 apples"u8.ToArray();
    bool powerIsGone = true;
    try
    {
        await PlaceAsync("message-17");
    }
    catch (IOException)
    {
        Console.WriteLine($"failed half-way:  {await CountAsync()} orders");
    }

    powerIsGone = false;
    Console.WriteLine($"delivered again:  order {await PlaceAsync("message-17")}, {await CountAsync()} order");
    Console.WriteLine($"and again:        order {await PlaceAsync("message-17")}, {await CountAsync()} order");
    long[] numbers = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(() => PlaceAsync("message-18"))));
    Console.WriteLine($"four at once:     order {string.Join(", ", numbers)}, {await CountAsync()} orders");

    int charges = 0;
    for (int i = 0; i < 2; i++)
    {
        string receipt = await orders.ExecuteAsync("charge-17", message, (operation, token) => ValueTask.FromResult($"receipt {++charges}"), ShopJson.Default.String);
        Console.WriteLine($"charged:          {receipt}");
    }

    async Task<long> PlaceAsync(string key)
    {
        await using SqliteConnection connection = await OpenAsync();
        return await orders.ExecuteInTransactionAsync(key, message, connection, async (transaction, operation, token) =>
        {
            long number = await RunAsync(connection, transaction, "INSERT INTO orders (what) VALUES ('2 apples') RETURNING number");
            return powerIsGone ? throw new IOException("the power is gone") : number;
        }, ShopJson.Default.Int64);
    }

    async Task<long> CountAsync()
    {
        await using SqliteConnection connection = await OpenAsync();
        return await RunAsync(connection, null, "SELECT count(*) FROM orders");
    }

    async Task<SqliteConnection> OpenAsync()
    {
        var connection = new SqliteConnection(database);
        await connection.OpenAsync();
        return connection;
    }
}

Directory.Delete(folder, recursive: true);

static async Task<long> RunAsync(SqliteConnection connection, DbTransaction? transaction, string sql)
{
    await using SqliteCommand command = connection.CreateCommand();
    command.CommandText = sql;
    command.Transaction = (SqliteTransaction?)transaction;
    return await command.ExecuteScalarAsync() as long? ?? 0;
}

[JsonSerializable(typeof(long))]
[JsonSerializable(typeof(string))]
internal sealed partial class ShopJson : JsonSerializerContext;
