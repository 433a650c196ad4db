#:project ../src/Backend.Toolkit.Idempotency.PostgreSql/Backend.Toolkit.Idempotency.PostgreSql.csproj
#:package Microsoft.Extensions.DependencyInjection
#:property JsonSerializerIsReflectionEnabledByDefault=false

// Idempotency in PostgreSQL: an order and its outcome in one commit, a run that fails, eight requests at once, and a charge before the transaction. Takes a connection string, or starts a server of its own.
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text.Json.Serialization;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.PostgreSql;
using Microsoft.Extensions.DependencyInjection;
using Npgsql;

using Server? server = args.Length > 0 ? null : await Server.StartAsync();
args = server is null ? args : [server.ConnectionString];
if (args.Length == 0)
{
    Console.WriteLine("No connection string was given, and PostgreSQL is not installed: nothing to show.");
    return;
}

var services = new ServiceCollection();
services.AddSingleton(NpgsqlDataSource.Create(args.FirstOrDefault() ?? "Host=127.0.0.1;Username=postgres"));
services.AddPostgreSqlIdempotencyStore(o => o.Schema = "shop");
services.AddIdempotency("orders", o => o.MaxWait = TimeSpan.FromSeconds(5));

await using ServiceProvider provider = services.BuildServiceProvider();
var orders = provider.GetRequiredKeyedService<IdempotentExecutor>("orders");
var database = provider.GetRequiredService<NpgsqlDataSource>();
await using NpgsqlConnection connection = await database.OpenConnectionAsync();
await using var table = new NpgsqlCommand("CREATE TABLE IF NOT EXISTS orders (id bigint GENERATED ALWAYS AS IDENTITY, item text NOT NULL)", connection);
await table.ExecuteNonQueryAsync();

// A message is delivered twice: order and outcome are one commit, and the repeat gets the same answer.
byte[] message = "2 apples"u8.ToArray();
for (int i = 0; i < 2; i++)
{
    long order = await orders.ExecuteInTransactionAsync("message-17", message, connection, async (transaction, operation, token) =>
    {
        await using var insert = new NpgsqlCommand("INSERT INTO orders (item) VALUES ('apples') RETURNING id", connection);
        return (long)(await insert.ExecuteScalarAsync(token))!;
    }, ShopJson.Default.Int64);
    Console.WriteLine($"Delivered: order {order}");
}

// 1. What fails is rolled back with its claim: the next request runs at once.
async Task<long> PlaceAsync(string key, bool fails = false)
{
    await using NpgsqlConnection own = await database.OpenConnectionAsync();
    return await orders.ExecuteInTransactionAsync(key, message, own, async (transaction, operation, token) =>
    {
        await using var insert = new NpgsqlCommand("INSERT INTO orders (item) VALUES ('apples') RETURNING id", own);
        long id = (long)(await insert.ExecuteScalarAsync(token))!;
        return fails ? throw new IOException("the power is gone") : id;
    }, ShopJson.Default.Int64);
}

long before = await CountAsync();
string failing = Guid.NewGuid().ToString();
try
{
    await PlaceAsync(failing, fails: true);
}
catch (IOException)
{
    Console.WriteLine($"Failed:         {await CountAsync() - before} in the table, then order {await PlaceAsync(failing)}");
}

// 2. Eight at once: one runs, seven wait at the index for its commit.
string shared = Guid.NewGuid().ToString();
long[] same = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => PlaceAsync(shared)));
Console.WriteLine($"Eight at once:  {same.Distinct().Count()} order, {await CountAsync() - before} in the table");

// 3. A call to somebody else comes before the transaction, as a phase: no transaction is open meanwhile.
long charged = await orders.ExecuteAsync(Guid.NewGuid().ToString(), message, async (operation, token) =>
{
    string charge = await operation.PhaseAsync("charge", ct => ChargeAsync(operation.DownstreamKey("charge"), ct), ShopJson.Default.String, token);
    await operation.BeginTransactionAsync(connection, token);
    await using var insert = new NpgsqlCommand("INSERT INTO orders (item) VALUES ($1) RETURNING id", connection) { Parameters = { new() { Value = charge } } };
    return (long)(await insert.ExecuteScalarAsync(token))!;
}, ShopJson.Default.Int64);
Console.WriteLine($"Charged first:  order {charged}");

async Task<long> CountAsync()
{
    await using NpgsqlCommand count = database.CreateCommand("SELECT count(*) FROM orders");
    return (long)(await count.ExecuteScalarAsync())!;
}

static async ValueTask<string> ChargeAsync(string key, CancellationToken token)
{
    await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, token);
    return $"charge under {key}";
}

[JsonSerializable(typeof(string))]
[JsonSerializable(typeof(long))]
internal sealed partial class ShopJson : JsonSerializerContext;

/// <summary>A PostgreSQL of the sample's own, gone afterwards; Debian: apt-get install postgresql. It refuses to run as root.</summary>
internal sealed class Server(Process process, string folder, int port) : IDisposable
{
    public string ConnectionString => $"Host=127.0.0.1;Port={port};Username=postgres;Database=postgres";

    public static async Task<Server?> StartAsync()
    {
        if (!Directory.Exists("/usr/lib/postgresql") || Directory.EnumerateFiles("/usr/lib/postgresql", "initdb", SearchOption.AllDirectories).LastOrDefault() is not string initdb)
        {
            return null;
        }

        string folder = Directory.CreateTempSubdirectory("idempotency-").FullName, data = Path.Combine(folder, "data");
        if (Environment.UserName == "root")
        {
            Process.Start("chown", ["postgres", folder]).WaitForExit();
        }

        using (Process init = Start(folder, initdb, "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"))
        {
            init.WaitForExit();
        }

        var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        int port = ((IPEndPoint)listener.LocalEndpoint).Port;
        listener.Stop();
        var server = new Server(Start(folder, Path.Combine(Path.GetDirectoryName(initdb)!, "postgres"), "-D", data, "-p", $"{port}", "-h", "127.0.0.1", "-k", folder, "-F"), folder, port);
        for (int i = 0; i < 300; i++)
        {
            try
            {
                await using var connection = new NpgsqlConnection(server.ConnectionString + ";Pooling=false");
                await connection.OpenAsync();
                return server;
            }
            catch (NpgsqlException)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System);
            }
        }

        server.Dispose();
        return null;
    }

    public void Dispose()
    {
        using (Process interrupt = Process.Start("kill", ["-INT", $"{process.Id}"]))
        {
            interrupt.WaitForExit();
        }

        process.WaitForExit();
        process.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    private static Process Start(string folder, params string[] line)
    {
        string[] all = Environment.UserName == "root" ? ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", .. line] : line;
        var process = Process.Start(new ProcessStartInfo(all[0], all[1..]) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true })!;
        _ = process.StandardOutput.ReadToEndAsync();
        _ = process.StandardError.ReadToEndAsync();
        return process;
    }
}
