using System.Security.Cryptography;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Idempotency.Sqlite.Tests;

/// <summary>A file of its own with a table for effects, gone with it.</summary>
public sealed class Database : IAsyncDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("sqlite").FullName;
    private readonly List<SqliteIdempotencyStore> _stores = [];

    public Database()
    {
        Execute("CREATE TABLE effects (name text NOT NULL)");
    }

    public static TimeSpan Lease { get; } = TimeSpan.FromSeconds(30);

    public string File => Path.Combine(_folder, "shop.db");

    public string ConnectionString => new SqliteConnectionStringBuilder { DataSource = File, Pooling = false }.ToString();

    public static IdempotencyDigest Digest() => new(RandomNumberGenerator.GetBytes(IdempotencyDigest.Size));

    public static IdempotencyClaimRequest Request(IdempotencyDigest? key = null) =>
        new() { Key = key ?? Digest(), Fingerprint = new IdempotencyDigest(new byte[32]), Lease = Lease, Retention = TimeSpan.FromHours(24) };

    public static IdempotencyOutcome Outcome(int status = 200) => new(status, new byte[] { 0, 1, 255 });

    public SqliteIdempotencyStore CreateStore(Action<SqliteIdempotencyStoreOptions>? configure = null, TimeProvider? time = null, ILogger<SqliteIdempotencyStore>? log = null)
    {
        // Nothing is deleted behind a test's back, and a slow machine has time enough.
        var options = new SqliteIdempotencyStoreOptions
        {
            Name = "tests",
            ConnectionString = ConnectionString,
            SurvivePowerLoss = false,
            BusyTimeout = TimeSpan.FromSeconds(30),
            CleanupInterval = Timeout.InfiniteTimeSpan,
        };
        configure?.Invoke(options);
        var store = new SqliteIdempotencyStore(options, time, log);
        _stores.Add(store);
        return store;
    }

    public SqliteConnection Connect()
    {
        var connection = new SqliteConnection(ConnectionString);
        connection.Open();
        return connection;
    }

    public void Execute(string sql)
    {
        using SqliteConnection connection = Connect();
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }

    public long Count(string what)
    {
        using SqliteConnection connection = Connect();
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = $"SELECT count(*) FROM {what}";
        return (long)command.ExecuteScalar()!;
    }

    public void Shift(TimeSpan by) => Execute(FormattableString.Invariant($"UPDATE idempotency SET lease_end = lease_end - {by.Ticks / 10}, expiry = expiry - {by.Ticks / 10}"));

    public async ValueTask DisposeAsync()
    {
        foreach (SqliteIdempotencyStore store in _stores)
        {
            await store.DisposeAsync();
        }

        Directory.Delete(_folder, recursive: true);
    }
}
