using System.Data.Common;
using Backend.Toolkit.Webhooks.Delivery;
using Backend.Toolkit.Webhooks.Delivery.PostgreSql;
using Backend.Toolkit.Webhooks.Delivery.Sqlite;
using BenchmarkDotNet.Attributes;
using Microsoft.Data.Sqlite;
using Npgsql;
using NpgsqlTypes;

/// <summary>One event in a transaction of its own, commit included, beside an insert of the same row into a table with the same indexes, a new command each time.</summary>
[MemoryDiagnoser]
public class EnqueueBenchmarks
{
    private const string Columns = "id, type, audience, order_key, endpoint_id, trace_parent, payload";

    private readonly byte[] _payload = new byte[2048];
    private readonly string _file = Path.Combine(Path.GetTempPath(), $"backend-toolkit-bench-{Guid.NewGuid():N}.db");
    private PostgreSqlCluster? _cluster;
    private DbConnection _connection = null!;
    private WebhookOutbox _outbox = null!;
    private bool _isSqlite;

    [Params("SQLite", "PostgreSQL")]
    public string Database { get; set; } = "";

    [GlobalSetup]
    public async Task SetupAsync()
    {
        _isSqlite = Database == "SQLite";
        IWebhookDeliveryStore store;
        string script;
        if (_isSqlite)
        {
            store = new SqliteWebhookDeliveryStore(new() { Name = "bench", ConnectionString = $"Data Source={_file}" });
            script = SqliteWebhookDeliveryStore.Script();
            _connection = new SqliteConnection($"Data Source={_file}");
        }
        else
        {
            _cluster = await PostgreSqlCluster.StartAsync() ?? throw new InvalidOperationException("PostgreSQL is not installed.");
            store = new PostgreSqlWebhookDeliveryStore(new() { Name = "bench", DataSource = NpgsqlDataSource.Create(_cluster.ConnectionString) });
            script = PostgreSqlWebhookDeliveryStore.Script();
            _connection = new NpgsqlConnection(_cluster.ConnectionString);
        }

        await store.PrepareAsync();
        _outbox = new WebhookOutbox(store);
        await _connection.OpenAsync();
        await using DbCommand create = _connection.CreateCommand();
        create.CommandText = script.Replace("webhook_", "hand_", StringComparison.Ordinal);
        await create.ExecuteNonQueryAsync();
    }

    [GlobalCleanup]
    public async Task CleanupAsync()
    {
        await _connection.DisposeAsync();
        SqliteConnection.ClearAllPools();
        File.Delete(_file);
        if (_cluster is not null)
        {
            await _cluster.DisposeAsync();
        }
    }

    [Benchmark(Baseline = true, Description = "an insert by hand")]
    public async Task InsertAsync()
    {
        await using DbTransaction transaction = await _connection.BeginTransactionAsync();
        string id = $"msg_{Guid.CreateVersion7():N}";
        if (_isSqlite)
        {
            await using var command = new SqliteCommand($"INSERT INTO hand_events ({Columns}, created_at) VALUES (@id, @type, @audience, @key, @endpoint, @trace, @payload, @now)", (SqliteConnection)_connection, (SqliteTransaction)transaction);
            command.Parameters.AddWithValue("@id", id);
            command.Parameters.AddWithValue("@type", "order.created");
            command.Parameters.AddWithValue("@audience", "acme");
            command.Parameters.AddWithValue("@key", "order-1");
            command.Parameters.AddWithValue("@endpoint", DBNull.Value);
            command.Parameters.AddWithValue("@trace", DBNull.Value);
            command.Parameters.AddWithValue("@payload", _payload);
            command.Parameters.AddWithValue("@now", TimeProvider.System.GetUtcNow().ToUnixTimeMilliseconds());
            await command.ExecuteNonQueryAsync();
        }
        else
        {
            await using var command = new NpgsqlCommand($"INSERT INTO hand_events ({Columns}) VALUES ($1, $2, $3, $4, $5, $6, $7)", (NpgsqlConnection)_connection, (NpgsqlTransaction)transaction);
            command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = id });
            command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = "order.created" });
            command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = "acme" });
            command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = "order-1" });
            command.Parameters.Add(new NpgsqlParameter { Value = DBNull.Value, NpgsqlDbType = NpgsqlDbType.Text });
            command.Parameters.Add(new NpgsqlParameter { Value = DBNull.Value, NpgsqlDbType = NpgsqlDbType.Text });
            command.Parameters.Add(new NpgsqlParameter<byte[]> { TypedValue = _payload });
            await command.ExecuteNonQueryAsync();
        }

        await transaction.CommitAsync();
    }

    [Benchmark(Description = "WebhookOutbox.EnqueueAsync")]
    public async Task EnqueueAsync()
    {
        await using DbTransaction transaction = await _connection.BeginTransactionAsync();
        await _outbox.EnqueueAsync(new WebhookEvent("order.created", _payload, "acme", OrderKey: "order-1"), transaction);
        await transaction.CommitAsync();
    }
}
