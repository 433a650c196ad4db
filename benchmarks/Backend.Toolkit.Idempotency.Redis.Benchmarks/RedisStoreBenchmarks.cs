using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.Redis;
using Backend.Toolkit.Tests;
using BenchmarkDotNet.Attributes;
using StackExchange.Redis;

/// <summary>
/// A run (claim and outcome) and a repeat, by one caller and by 50 at once over one multiplexer, on a real server on this machine. The baseline is what people write by hand: <c>SET NX PX</c>, then <c>SET PX</c>; and
/// for a repeat <c>SET NX PX</c>, then <c>GET</c>. It has no fence, no fingerprint, no lease: a late owner overwrites. Outcomes have 200 bytes.
/// </summary>
public class RedisStoreBenchmarks
{
    private const int Each = 40;
    private static readonly TimeSpan Lease = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan Retention = TimeSpan.FromMinutes(10);
    private static readonly byte[] Content = new byte[200];

    private RedisServer _server = null!;
    private ConnectionMultiplexer _connection = null!;
    private IDatabase _database = null!;
    private RedisIdempotencyStore _store = null!;
    private IdempotencyClaimRequest _done;
    private long _number;

    [Params(1, 50)]
    public int Callers { get; set; }

    [GlobalSetup]
    public async Task Start()
    {
        _server = await RedisServer.StartAsync();
        _connection = await _server.ConnectAsync();
        _database = _connection.GetDatabase();
        _store = new RedisIdempotencyStore(new RedisIdempotencyStoreOptions { Name = "benchmarks", Connection = _connection, StoreTimeout = TimeSpan.FromSeconds(20) });
        _done = Request();
        IdempotencyClaim claim = await _store.BeginAsync(_done);
        await _store.CompleteAsync(claim.Key, claim.Fence, new IdempotencyOutcome(200, Content), TimeSpan.FromDays(1));
        await _database.StringSetAsync("done", Content);
    }

    [GlobalCleanup]
    public async Task Stop()
    {
        await _connection.DisposeAsync();
        await _server.DisposeAsync();
    }

    [BenchmarkCategory("a run"), Benchmark(Baseline = true, OperationsPerInvoke = Each, Description = "SET NX PX, SET PX")]
    public Task RunByHand() => RunAsync(static async it =>
    {
        string key = $"hand:{Interlocked.Increment(ref it._number)}";
        return await it._database.StringSetAsync(key, "busy", Lease, When.NotExists) && await it._database.StringSetAsync(key, Content, Retention);
    });

    [BenchmarkCategory("a run"), Benchmark(OperationsPerInvoke = Each, Description = "RedisIdempotencyStore")]
    public Task Run() => RunAsync(static async it =>
    {
        IdempotencyClaim claim = await it._store.BeginAsync(it.Request());
        return await it._store.CompleteAsync(claim.Key, claim.Fence, new IdempotencyOutcome(200, Content), Retention);
    });

    [BenchmarkCategory("a repeat"), Benchmark(Baseline = true, OperationsPerInvoke = Each, Description = "SET NX PX, GET")]
    public Task RepeatByHand() => RunAsync(static async it =>
        !await it._database.StringSetAsync("done", "busy", Lease, When.NotExists) && ((byte[]?)await it._database.StringGetAsync("done"))!.Length == Content.Length);

    [BenchmarkCategory("a repeat"), Benchmark(OperationsPerInvoke = Each, Description = "RedisIdempotencyStore")]
    public Task Repeat() => RunAsync(static async it => (await it._store.BeginAsync(it._done)).Status == IdempotencyClaimStatus.Completed);

    private IdempotencyClaimRequest Request()
    {
        Span<byte> key = stackalloc byte[IdempotencyDigest.Size];
        BitConverter.TryWriteBytes(key, Interlocked.Increment(ref _number));
        return new IdempotencyClaimRequest { Key = new IdempotencyDigest(key), Fingerprint = new IdempotencyDigest(key), Lease = Lease, Retention = Retention };
    }

    /// <summary>What one of the callers takes for one of its requests; all work at the same time.</summary>
    private Task RunAsync(Func<RedisStoreBenchmarks, Task<bool>> request) => Task.WhenAll(Enumerable.Range(0, Callers).Select(_ => Task.Run(async () =>
    {
        for (int i = 0; i < Each; i++)
        {
            if (!await request(this))
            {
                throw new InvalidOperationException("Not done.");
            }
        }
    })));
}
