using Backend.Toolkit.RateLimiting;
using Backend.Toolkit.RateLimiting.Redis;
using Backend.Toolkit.Tests;
using BenchmarkDotNet.Attributes;
using StackExchange.Redis;

/// <summary>
/// One request, of 50 callers at once over one multiplexer, on a real server on this machine. The baseline is the script that people write by hand, a counter that expires: two commands, no reading of a clock, and
/// a limit that is off by up to twice. Beside it our bucket without leases, and with leases of 100; nobody is refused.
/// </summary>
public class RedisLimiterBenchmarks
{
    private const int Callers = 50;
    private const int Each = 40;
    private const string Counter = "local count = redis.call('INCR', KEYS[1]) if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end return count";

    private RedisServer _server = null!;
    private ConnectionMultiplexer _connection = null!;
    private IDatabase _database = null!;
    private RedisTokenBucketLimiter<string> _exact = null!;
    private RedisTokenBucketLimiter<string> _leasing = null!;

    [GlobalSetup]
    public async Task Start()
    {
        _server = await RedisServer.StartAsync();
        _connection = await _server.ConnectAsync();
        _database = _connection.GetDatabase();
        _exact = Make("exact", 0);
        _leasing = Make("leasing", 100);
    }

    [GlobalCleanup]
    public async Task Stop()
    {
        await _connection.DisposeAsync();
        await _server.DisposeAsync();
    }

    [BenchmarkCategory("admit, 50 callers"), Benchmark(Baseline = true, OperationsPerInvoke = Callers * Each, Description = "a script of INCR and PEXPIRE")]
    public Task HandWritten() => RunAsync(static async it => (long)await it._database.ScriptEvaluateAsync(Counter, ["counter"], [1000]) > 0);

    [BenchmarkCategory("admit, 50 callers"), Benchmark(OperationsPerInvoke = Callers * Each, Description = "RedisTokenBucketLimiter")]
    public Task Exact() => RunAsync(static async it => (await it._exact.AcquireDecisionAsync("one")).IsAdmitted);

    [BenchmarkCategory("admit, 50 callers"), Benchmark(OperationsPerInvoke = Callers * Each, Description = "RedisTokenBucketLimiter, leases of 100")]
    public Task Leasing() => RunAsync(static async it => (await it._leasing.AcquireDecisionAsync("one")).IsAdmitted);

    private RedisTokenBucketLimiter<string> Make(string name, int lease)
    {
        var options = new RedisTokenBucketLimiterOptions<string> { Name = name, Connection = _connection, KeySelector = key => key, LeaseSize = lease, StoreTimeout = TimeSpan.FromSeconds(10) };
        options.Limits.Add(new RateLimit(10_000_000, TimeSpan.FromSeconds(1), 100_000_000));
        return new RedisTokenBucketLimiter<string>(options);
    }

    private Task RunAsync(Func<RedisLimiterBenchmarks, Task<bool>> request) => Task.WhenAll(Enumerable.Range(0, Callers).Select(_ => Task.Run(async () =>
    {
        for (int i = 0; i < Each; i++)
        {
            if (!await request(this))
            {
                throw new InvalidOperationException("Refused.");
            }
        }
    })));
}
