using System.Data.Common;
using System.Security.Cryptography;
using System.Text;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.PostgreSql;
using BenchmarkDotNet.Attributes;
using Npgsql;
using NpgsqlTypes;

/// <summary>
/// One order in a transaction, on a real server on this machine, of one caller or of eight. The baseline is what people write by hand: a row with the hash of the key is claimed, and later updated with the answer, in the same
/// transaction; all its statements are prepared. Beside it the store (claim, outcome and commit), the executor over it (hashes, JSON), and the handler without any key. The replays read what is there.
/// </summary>
public class TransactionBenchmarks
{
    private const int Each = 50;

    private static readonly byte[] Body = Encoding.UTF8.GetBytes("""{"customer":4711,"items":[{"sku":"a-1","quantity":2}]}""");
    private static readonly byte[] Answer = Encoding.UTF8.GetBytes("""{"order":815,"status":"accepted","total":30.5,"currency":"EUR"}""");

    private PostgreSqlCluster _cluster = null!;
    private NpgsqlDataSource _source = null!;
    private PostgreSqlIdempotencyStore _store = null!;
    private IdempotentExecutor _executor = null!;
    private IdempotencyClaimRequest _done;
    private byte[] _doneByHand = null!;
    private long _number;

    [Params(1, 8)]
    public int Callers { get; set; }

    [GlobalSetup]
    public async Task Start()
    {
        _cluster = await PostgreSqlCluster.StartAsync() ?? throw new InvalidOperationException("PostgreSQL is not installed (Debian: apt-get install postgresql).");
        _source = NpgsqlDataSource.Create($"{_cluster.ConnectionString};Maximum Pool Size=16");
        _store = new PostgreSqlIdempotencyStore(new PostgreSqlIdempotencyStoreOptions { Name = "benchmark", DataSource = _source, CleanupInterval = Timeout.InfiniteTimeSpan });
        _executor = new IdempotentExecutor(_store, new IdempotencyOptions { Name = "orders" });
        await using NpgsqlCommand tables = _source.CreateCommand("""
            CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL, at timestamptz NOT NULL DEFAULT now());
            CREATE TABLE by_hand (key bytea PRIMARY KEY, fingerprint bytea NOT NULL, at timestamptz NOT NULL DEFAULT now(), status integer, content bytea);
            CREATE INDEX ON by_hand (at);
            """);
        await tables.ExecuteNonQueryAsync();
        _done = Request();
        IdempotencyClaim claim = await _store.BeginAsync(_done);
        await _store.CompleteAsync(claim.Key, claim.Fence, new IdempotencyOutcome(201, Answer), _done.Retention);
        _doneByHand = Key();
        await using NpgsqlConnection connection = await _source.OpenConnectionAsync();
        await HandWrittenAsync(connection, _doneByHand);
    }

    [GlobalCleanup]
    public async Task Stop()
    {
        await _store.DisposeAsync();
        await _source.DisposeAsync();
        await _cluster.DisposeAsync();
    }

    [BenchmarkCategory("order"), Benchmark(Baseline = true, OperationsPerInvoke = Each, Description = "claim and update by hand")]
    public Task ByHand() => RunAsync(static (it, connection) => it.HandWrittenAsync(connection, it.Key()));

    [BenchmarkCategory("order"), Benchmark(OperationsPerInvoke = Each, Description = "PostgreSqlIdempotencyStore")]
    public Task Store() => RunAsync(static async (it, connection) =>
    {
        DbTransaction transaction = await it._store.BeginTransactionAsync(connection, TimeSpan.FromSeconds(10));
        await using (transaction)
        {
            IdempotencyClaim claim = await it._store.ClaimAsync(it.Request(), transaction, DuplicatePolicy.WaitAndReplay, TimeSpan.FromSeconds(10));
            await InsertOrderAsync(connection);
            if (!await it._store.CompleteAndCommitAsync(claim.Key, claim.Fence, new IdempotencyOutcome(201, Answer), TimeSpan.FromHours(24), transaction))
            {
                throw new InvalidOperationException("Not committed.");
            }
        }
    });

    [BenchmarkCategory("order"), Benchmark(OperationsPerInvoke = Each, Description = "IdempotentExecutor")]
    public Task Executor() => RunAsync(static async (it, connection) =>
        await it._executor.ExecuteInTransactionAsync(Guid.NewGuid().ToString(), Body, connection, static async (transaction, _, _) =>
        {
            await InsertOrderAsync((NpgsqlConnection)transaction.Connection!);
            return new Accepted(815, "accepted", 30.5m, "EUR");
        }, BenchmarkJson.Default.Accepted));

    [BenchmarkCategory("order"), Benchmark(OperationsPerInvoke = Each, Description = Comparison.Floor)]
    public Task Bare() => RunAsync(static async (_, connection) =>
    {
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync();
        await InsertOrderAsync(connection);
        await transaction.CommitAsync();
    });

    [BenchmarkCategory("replay"), Benchmark(Baseline = true, OperationsPerInvoke = Each, Description = "select by hand")]
    public Task ReplayByHand() => RunAsync(static async (it, connection) =>
    {
        await using var select = new NpgsqlCommand("SELECT fingerprint, status, content FROM by_hand WHERE key = $1 AND at > now() - interval '24 hours'", connection) { Parameters = { Bytes(it._doneByHand) } };
        await select.PrepareAsync();
        await using NpgsqlDataReader reader = await select.ExecuteReaderAsync();
        await reader.ReadAsync();
        _ = (reader.GetFieldValue<byte[]>(0), reader.GetInt32(1), reader.GetFieldValue<byte[]>(2));
    });

    [BenchmarkCategory("replay"), Benchmark(OperationsPerInvoke = Each, Description = "PostgreSqlIdempotencyStore.BeginAsync")]
    public Task Replay() => RunAsync(static async (it, _) =>
    {
        if ((await it._store.BeginAsync(it._done)).Status != IdempotencyClaimStatus.Completed)
        {
            throw new InvalidOperationException("Not replayed.");
        }
    }, holdsConnection: false);

    private async Task HandWrittenAsync(NpgsqlConnection connection, byte[] key)
    {
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync();
        await using (var claim = new NpgsqlCommand("INSERT INTO by_hand (key, fingerprint) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING", connection, transaction) { Parameters = { Bytes(key), Bytes(SHA256.HashData(Body)) } })
        {
            await claim.PrepareAsync();
            if (await claim.ExecuteNonQueryAsync() != 1)
            {
                throw new InvalidOperationException("Claimed before.");
            }
        }

        await InsertOrderAsync(connection);
        await using (var update = new NpgsqlCommand("UPDATE by_hand SET status = $2, content = $3 WHERE key = $1", connection, transaction)
        {
            Parameters = { Bytes(key), new NpgsqlParameter<int> { NpgsqlDbType = NpgsqlDbType.Integer, TypedValue = 201 }, Bytes(Answer) },
        })
        {
            await update.PrepareAsync();
            await update.ExecuteNonQueryAsync();
        }

        await transaction.CommitAsync();
    }

    private static async Task InsertOrderAsync(NpgsqlConnection connection)
    {
        await using var insert = new NpgsqlCommand("INSERT INTO orders (body) VALUES ($1)", connection) { Parameters = { Bytes(Body) } };
        await insert.PrepareAsync();
        await insert.ExecuteNonQueryAsync();
    }

    private static NpgsqlParameter Bytes(byte[] bytes) => new NpgsqlParameter<byte[]> { NpgsqlDbType = NpgsqlDbType.Bytea, TypedValue = bytes };

    private byte[] Key() => SHA256.HashData(BitConverter.GetBytes(Interlocked.Increment(ref _number)));

    private IdempotencyClaimRequest Request() => new()
    {
        Key = new IdempotencyDigest(Key()),
        Fingerprint = new IdempotencyDigest(SHA256.HashData(Body)),
        Lease = TimeSpan.FromSeconds(30),
        Retention = TimeSpan.FromHours(24),
    };

    /// <summary>So many orders, shared by the callers; each takes a connection of the pool for every one of its own.</summary>
    private async Task RunAsync(Func<TransactionBenchmarks, NpgsqlConnection, Task> order, bool holdsConnection = true)
    {
        int left = Each;
        await Task.WhenAll(Enumerable.Range(0, Callers).Select(_ => Task.Run(async () =>
        {
            while (Interlocked.Decrement(ref left) >= 0)
            {
                await using NpgsqlConnection? connection = holdsConnection ? await _source.OpenConnectionAsync() : null;
                await order(this, connection!);
            }
        })));
    }
}
