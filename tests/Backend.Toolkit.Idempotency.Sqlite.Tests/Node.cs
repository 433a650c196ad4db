using System.Data.Common;
using System.Text;
using System.Text.Json.Serialization;
using Dapper;
using Microsoft.Data.Sqlite;

namespace Backend.Toolkit.Idempotency.Sqlite.Tests;

/// <summary>A process of its own: <c>race FILE KEYS</c> runs every key once in a transaction and claims it once with a lease; <c>hold FILE KEY</c> claims one in both ways, and then waits to be killed.</summary>
internal static class Node
{
    public static async Task<int> RunAsync(string[] args)
    {
        string connectionString = new SqliteConnectionStringBuilder { DataSource = args[1], Pooling = false }.ToString();
        await using var store = new SqliteIdempotencyStore(new SqliteIdempotencyStoreOptions { Name = "node", ConnectionString = connectionString, SurvivePowerLoss = false, BusyTimeout = TimeSpan.FromSeconds(60) });
        var executor = new IdempotentExecutor(store, new IdempotencyOptions { Name = "nodes", Lease = TimeSpan.FromSeconds(1), MaxWait = TimeSpan.FromSeconds(60) });
        await using var connection = new SqliteConnection(connectionString);
        await connection.OpenAsync();
        Console.WriteLine("ready");
        Console.ReadLine();
        if (args[0] == "hold")
        {
            await executor.BeginAsync(new IdempotencyScope("nodes", ""), $"lease {args[2]}", default);
            await executor.ExecuteInTransactionAsync(args[2], default, connection, async (transaction, _, _) =>
            {
                await AffectAsync(args[2], transaction);
                Console.WriteLine("held");
                Console.ReadLine();
                return "";
            }, NodeJson.Default.String);
            return 1;
        }

        int claimed = 0;
        for (int key = 0; key < int.Parse(args[2], System.Globalization.CultureInfo.InvariantCulture); key++)
        {
            string name = $"key {key}";
            await executor.ExecuteInTransactionAsync(name, Encoding.UTF8.GetBytes(name), connection, async (transaction, _, _) =>
            {
                await AffectAsync(name, transaction);
                return name;
            }, NodeJson.Default.String);
            IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope("leases", ""), name, default);
            if (operation.Status == IdempotencyStatus.Started)
            {
                claimed++;
                await operation.CompleteAsync(new IdempotencyOutcome(0, default));
            }

            await operation.DisposeAsync();
        }

        Console.WriteLine(claimed);
        return 0;
    }

    private static Task AffectAsync(string name, DbTransaction transaction) =>
        transaction.Connection!.ExecuteAsync("INSERT INTO effects (name) VALUES (@name)", new { name }, transaction);
}

[JsonSerializable(typeof(string))]
internal sealed partial class NodeJson : JsonSerializerContext;
