using System.Data.Common;
using Backend.Toolkit.Tests;
using Microsoft.Data.Sqlite;
using Npgsql;

namespace Backend.Toolkit.Idempotency.Processes.Tests;

/// <summary>A store that nodes share, a ledger, and a folder for both.</summary>
internal sealed class Place : IAsyncDisposable
{
    private readonly string _folder;
    private readonly string _store;
    private readonly bool _inTransaction;
    private readonly RedisServer? _redis;

    private Place(string folder, string store, bool inTransaction, string connectionString, RedisServer? redis)
    {
        _folder = folder;
        _store = store;
        _inTransaction = inTransaction;
        _redis = redis;
        ConnectionString = connectionString;
        LedgerFile = Path.Combine(folder, "ledger.db");
        Ledger = new Ledger(LedgerFile);
    }

    public string ConnectionString { get; }

    public string LedgerFile { get; }

    public Ledger Ledger { get; }

    public static async Task<Place> MakeAsync(PostgreSqlServer postgreSql, string store, bool inTransaction)
    {
        string folder = Directory.CreateTempSubdirectory("idempotency-").FullName;
        RedisServer? redis = store == "redis" ? await RedisServer.StartAsync() : null;
        string connectionString = store switch
        {
            "sqlite" => new SqliteConnectionStringBuilder { DataSource = Path.Combine(folder, "records.db") }.ToString(),
            "postgresql" => await NewDatabaseAsync(postgreSql),
            _ => redis!.ConnectionString,
        };
        var place = new Place(folder, store, inTransaction, connectionString, redis);
        if (inTransaction)
        {
            await using DbConnection connection = place.Connect();
            await connection.OpenAsync();
            await using DbCommand command = connection.CreateCommand();
            command.CommandText = Ledger.EffectsTable;
            await command.ExecuteNonQueryAsync();
        }

        return place;
    }

    public NodeSettings Node(string name) => new(_store, ConnectionString, _inTransaction, LedgerFile, name);

    public async Task<Dictionary<string, string[]>> ChargesAsync()
    {
        if (!_inTransaction)
        {
            return await Ledger.ChargesAsync();
        }

        await using DbConnection connection = Connect();
        await connection.OpenAsync();
        return await Ledger.ChargesAsync(connection);
    }

    public async ValueTask DisposeAsync()
    {
        SqliteConnection.ClearAllPools();
        NpgsqlConnection.ClearAllPools();
        if (_redis is not null)
        {
            await _redis.DisposeAsync();
        }

        Directory.Delete(_folder, recursive: true);
    }

    private DbConnection Connect() => _store == "sqlite" ? new SqliteConnection(ConnectionString) : new NpgsqlConnection(ConnectionString);

    private static async Task<string> NewDatabaseAsync(PostgreSqlServer server)
    {
        string name = $"idempotency_{Guid.NewGuid():N}";
        await using NpgsqlConnection connection = await server.ConnectAsync();
        await using var create = new NpgsqlCommand($"CREATE DATABASE {name}", connection);
        await create.ExecuteNonQueryAsync();
        return new NpgsqlConnectionStringBuilder(server.ConnectionString()) { Database = name, MaxPoolSize = 20 }.ToString();
    }
}
