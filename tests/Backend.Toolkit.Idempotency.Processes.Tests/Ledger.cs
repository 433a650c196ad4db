using System.Data.Common;
using Microsoft.Data.Sqlite;

namespace Backend.Toolkit.Idempotency.Processes.Tests;

/// <summary>A run that began: at which instant, under which downstream key, on which node.</summary>
internal sealed record Run(string Key, string Downstream, string Node, DateTimeOffset At);

/// <summary>What the world sees: which runs began, and what they charged. A file of its own that survives every node; charges inside a transaction are in the database of that.</summary>
internal sealed class Ledger
{
    public const string EffectsTable = "CREATE TABLE IF NOT EXISTS charges (key TEXT NOT NULL, downstream TEXT NOT NULL, node TEXT NOT NULL)";

    private readonly string _connectionString;

    public Ledger(string file)
    {
        _connectionString = new SqliteConnectionStringBuilder { DataSource = file }.ToString();
        Execute("PRAGMA journal_mode = WAL");
        Execute("CREATE TABLE IF NOT EXISTS runs (key TEXT NOT NULL, downstream TEXT NOT NULL, node TEXT NOT NULL, at INTEGER NOT NULL)");
        Execute(EffectsTable);
    }

    public void Begin(string key, string downstream, string node) => Execute(
        "INSERT INTO runs (key, downstream, node, at) VALUES (@key, @downstream, @node, @at)",
        ("@key", key), ("@downstream", downstream), ("@node", node), ("@at", TimeProvider.System.GetUtcNow().ToUnixTimeMilliseconds()));

    public void Charge(string key, string downstream, string node) => Execute(
        "INSERT INTO charges (key, downstream, node) VALUES (@key, @downstream, @node)", ("@key", key), ("@downstream", downstream), ("@node", node));

    public static async Task ChargeAsync(DbTransaction transaction, string key, string downstream, string node)
    {
        await using DbCommand command = transaction.Connection!.CreateCommand();
        command.Transaction = transaction;
        command.CommandText = "INSERT INTO charges (key, downstream, node) VALUES (@key, @downstream, @node)";
        foreach ((string name, string value) in new[] { ("@key", key), ("@downstream", downstream), ("@node", node) })
        {
            DbParameter parameter = command.CreateParameter();
            (parameter.ParameterName, parameter.Value) = (name, value);
            command.Parameters.Add(parameter);
        }

        await command.ExecuteNonQueryAsync();
    }

    public List<Run> Runs()
    {
        using SqliteConnection connection = Open();
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = "SELECT key, downstream, node, at FROM runs ORDER BY rowid";
        using SqliteDataReader reader = command.ExecuteReader();
        List<Run> runs = [];
        while (reader.Read())
        {
            runs.Add(new Run(reader.GetString(0), reader.GetString(1), reader.GetString(2), DateTimeOffset.FromUnixTimeMilliseconds(reader.GetInt64(3))));
        }

        return runs;
    }

    public async Task<Dictionary<string, string[]>> ChargesAsync()
    {
        await using SqliteConnection connection = Open();
        return await ChargesAsync(connection);
    }

    /// <summary>The downstream key of each charge, by key.</summary>
    public static async Task<Dictionary<string, string[]>> ChargesAsync(DbConnection connection)
    {
        await using DbCommand command = connection.CreateCommand();
        command.CommandText = "SELECT key, downstream FROM charges";
        await using DbDataReader reader = await command.ExecuteReaderAsync();
        List<(string Key, string Downstream)> charges = [];
        while (await reader.ReadAsync())
        {
            charges.Add((reader.GetString(0), reader.GetString(1)));
        }

        return charges.GroupBy(charge => charge.Key).ToDictionary(key => key.Key, key => key.Select(charge => charge.Downstream).ToArray());
    }

    private SqliteConnection Open()
    {
        var connection = new SqliteConnection(_connectionString);
        connection.Open();
        return connection;
    }

    private void Execute(string sql, params (string Name, object Value)[] parameters)
    {
        using SqliteConnection connection = Open();
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = $"PRAGMA synchronous = NORMAL; {sql}";
        foreach ((string name, object value) in parameters)
        {
            command.Parameters.AddWithValue(name, value);
        }

        command.ExecuteNonQuery();
    }
}
