using System.Data.Common;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.Sqlite;
using BenchmarkDotNet.Attributes;
using Microsoft.Data.Sqlite;

/// <summary>
/// One caller, a file on this machine's disk in WAL mode, outcomes of 200 bytes. By hand is what people write: a table of keys and responses, an insert that does nothing on conflict, an update; no fence, no lease, no fingerprint, no expiry. Each
/// way does one transaction, or two, as the other does, under the same <c>PRAGMA synchronous</c>.
/// </summary>
public class SqliteStoreBenchmarks
{
    private static readonly TimeSpan Lease = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan Retention = TimeSpan.FromDays(1);
    private static readonly byte[] Content = new byte[200];

    private readonly string _folder = Directory.CreateTempSubdirectory("sqlite").FullName;
    private SqliteConnection _connection = null!;
    private SqliteIdempotencyStore _store = null!;
    private IdempotencyClaimRequest _done;
    private long _number;

    [Params("NORMAL", "FULL")]
    public string Synchronous { get; set; } = "";

    [GlobalSetup]
    public async Task Start()
    {
        string database = $"Data Source={_folder}/{Guid.NewGuid():N}.db;Pooling=False";
        _store = new SqliteIdempotencyStore(new SqliteIdempotencyStoreOptions { Name = "benchmarks", ConnectionString = database, SurvivePowerLoss = Synchronous == "FULL" });
        _done = Request();
        IdempotencyClaim claim = await _store.BeginAsync(_done);
        await _store.CompleteAsync(claim.Key, claim.Fence, new IdempotencyOutcome(200, Content), Retention);
        _connection = new SqliteConnection(database);
        await _connection.OpenAsync();
        await RunAsync(null, $"PRAGMA synchronous = {Synchronous}; CREATE TABLE keys (key BLOB PRIMARY KEY, response BLOB); CREATE TABLE orders (number INTEGER PRIMARY KEY, what TEXT NOT NULL)");
        await RunAsync(null, "INSERT INTO keys (key, response) VALUES ($key, $response)", ("$key", _done.Key.ToArray()), ("$response", Content));
    }

    [GlobalCleanup]
    public async Task Stop()
    {
        await _connection.DisposeAsync();
        await _store.DisposeAsync();
    }

    [BenchmarkCategory("effect and outcome in one transaction"), Benchmark(Baseline = true, Description = "by hand")]
    public async Task TransactionByHand()
    {
        byte[] key = Request().Key.ToArray();
        await using SqliteTransaction transaction = _connection.BeginTransaction();
        await RunAsync(transaction, "INSERT INTO keys (key) VALUES ($key) ON CONFLICT DO NOTHING", ("$key", key));
        await RunAsync(transaction, "INSERT INTO orders (what) VALUES ('2 apples')");
        await RunAsync(transaction, "UPDATE keys SET response = $response WHERE key = $key", ("$key", key), ("$response", Content));
        await transaction.CommitAsync();
    }

    [BenchmarkCategory("effect and outcome in one transaction"), Benchmark(Description = "SqliteIdempotencyStore")]
    public async Task Transaction()
    {
        DbTransaction transaction = await _store.BeginTransactionAsync(_connection, Lease);
        await using (transaction.ConfigureAwait(false))
        {
            IdempotencyClaim claim = await _store.ClaimAsync(Request(), transaction, DuplicatePolicy.WaitAndReplay, Lease);
            await RunAsync((SqliteTransaction)transaction, "INSERT INTO orders (what) VALUES ('2 apples')");
            Check(await _store.CompleteAndCommitAsync(claim.Key, claim.Fence, new IdempotencyOutcome(200, Content), Retention, transaction));
        }
    }

    [BenchmarkCategory("claim, then outcome"), Benchmark(Baseline = true, Description = "by hand")]
    public async Task LeaseByHand()
    {
        byte[] key = Request().Key.ToArray();
        await RunAsync(null, "INSERT INTO keys (key) VALUES ($key) ON CONFLICT DO NOTHING", ("$key", key));
        await RunAsync(null, "UPDATE keys SET response = $response WHERE key = $key", ("$key", key), ("$response", Content));
    }

    [BenchmarkCategory("claim, then outcome"), Benchmark(Description = "SqliteIdempotencyStore")]
    public async Task LeaseMode()
    {
        IdempotencyClaim claim = await _store.BeginAsync(Request());
        Check(await _store.CompleteAsync(claim.Key, claim.Fence, new IdempotencyOutcome(200, Content), Retention));
    }

    [BenchmarkCategory("a repeat"), Benchmark(Baseline = true, Description = "by hand")]
    public async Task RepeatByHand()
    {
        await using SqliteCommand command = Command(null, "SELECT response FROM keys WHERE key = $key", ("$key", _done.Key.ToArray()));
        Check(await command.ExecuteScalarAsync() is byte[] { Length: 200 });
    }

    [BenchmarkCategory("a repeat"), Benchmark(Description = "SqliteIdempotencyStore")]
    public async Task Repeat() => Check((await _store.BeginAsync(_done)).Status == IdempotencyClaimStatus.Completed);

    private static void Check(bool done)
    {
        if (!done)
        {
            throw new InvalidOperationException("Not done.");
        }
    }

    private async Task RunAsync(SqliteTransaction? transaction, string sql, params (string Name, object Value)[] values)
    {
        await using SqliteCommand command = Command(transaction, sql, values);
        await command.ExecuteNonQueryAsync();
    }

    private SqliteCommand Command(SqliteTransaction? transaction, string sql, params (string Name, object Value)[] values)
    {
        SqliteCommand command = _connection.CreateCommand();
        command.CommandText = sql;
        command.Transaction = transaction;
        foreach ((string name, object value) in values)
        {
            command.Parameters.AddWithValue(name, value);
        }

        return command;
    }

    /// <summary>A new key each time, spread like a hash.</summary>
    private IdempotencyClaimRequest Request()
    {
        byte[] key = new byte[IdempotencyDigest.Size];
        new Random((int)Interlocked.Increment(ref _number)).NextBytes(key);
        return new IdempotencyClaimRequest { Key = new IdempotencyDigest(key), Fingerprint = new IdempotencyDigest(key), Lease = Lease, Retention = Retention };
    }
}
