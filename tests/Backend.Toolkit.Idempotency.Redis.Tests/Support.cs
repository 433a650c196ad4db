using System.Security.Cryptography;
using Backend.Toolkit.Tests;
using Microsoft.Extensions.Logging;
using StackExchange.Redis;

namespace Backend.Toolkit.Idempotency.Redis.Tests;

internal static class Stores
{
    private const string ShiftScript = """
        local state = redis.call('GET', KEYS[1])
        if state then
          local left = redis.call('PTTL', KEYS[1]) - ARGV[1]
          if left <= 0 then
            redis.call('DEL', KEYS[1])
          else
            redis.call('SETRANGE', KEYS[1], 11, struct.pack('>d', struct.unpack('>d', state, 12) - ARGV[1] * 1000))
            redis.call('PEXPIRE', KEYS[1], left)
          end
        end
        """;

    public static TimeSpan Lease { get; } = TimeSpan.FromSeconds(30);

    /// <summary>A store of a prefix of its own, unless told otherwise; the server has time enough.</summary>
    public static RedisIdempotencyStore Make(IConnectionMultiplexer connection, Action<RedisIdempotencyStoreOptions>? configure = null, TimeProvider? time = null, LogList? log = null)
    {
        var options = new RedisIdempotencyStoreOptions { Name = "tests", Connection = connection, KeyPrefix = $"{Guid.NewGuid():N}:", StoreTimeout = TimeSpan.FromSeconds(20) };
        configure?.Invoke(options);
        return new RedisIdempotencyStore(options, time, log);
    }

    public static IdempotencyDigest Digest() => new(RandomNumberGenerator.GetBytes(IdempotencyDigest.Size));

    public static IdempotencyClaimRequest Request(IdempotencyDigest? previous = null) =>
        new() { Key = Digest(), PreviousKey = previous, Fingerprint = Digest(), Lease = Lease, Retention = TimeSpan.FromHours(24) };

    public static IdempotencyOutcome Outcome(int status = 200) => new(status, new byte[] { 0, 1, 255 });

    public static ValueTask<bool> CompleteAsync(this IIdempotencyStore store, IdempotencyClaim claim, int status = 200) =>
        store.CompleteAsync(claim.Key, claim.Fence, Outcome(status), TimeSpan.FromHours(24));

    /// <summary>Makes all records of a prefix older.</summary>
    public static async ValueTask ShiftAsync(IConnectionMultiplexer connection, string prefix, TimeSpan by)
    {
        foreach (RedisKey key in connection.GetServers()[0].Keys(pattern: $"{prefix}*", pageSize: 10_000).ToArray())
        {
            await connection.GetDatabase().ScriptEvaluateAsync(ShiftScript, [key], [(long)by.TotalMilliseconds]);
        }
    }

    /// <summary>How often the server has run which commands, those of scripts among them.</summary>
    public static async Task<Dictionary<string, long>> CommandsAsync(this IConnectionMultiplexer connection) =>
        (await connection.GetServers()[0].InfoAsync("commandstats")).SelectMany(group => group)
            .ToDictionary(stat => stat.Key["cmdstat_".Length..], stat => long.Parse(stat.Value.Split("calls=")[1].Split(',')[0]));
}

internal sealed record LogEntry(LogLevel Level, int Id, string Message);

/// <summary>Keeps what is logged, by all categories of a host or by one store.</summary>
internal sealed class LogList : ILogger<RedisIdempotencyStore>, ILoggerProvider
{
    private readonly Lock _gate = new();
    private readonly List<LogEntry> _entries = [];

    public IReadOnlyList<LogEntry> Entries
    {
        get
        {
            lock (_gate)
            {
                return [.. _entries];
            }
        }
    }

    public ILogger CreateLogger(string categoryName) => this;

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        lock (_gate)
        {
            _entries.Add(new LogEntry(logLevel, eventId.Id, formatter(state, exception)));
        }
    }

    public void Dispose()
    {
    }
}

/// <summary>One server for the tests of a class.</summary>
public sealed class RedisFixture : IAsyncLifetime
{
    public RedisServer Server { get; private set; } = null!;

    public ConnectionMultiplexer Connection { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Server = await RedisServer.StartAsync();
        Connection = await Server.ConnectAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (Connection is not null)
        {
            await Connection.DisposeAsync();
        }

        if (Server is not null)
        {
            await Server.DisposeAsync();
        }
    }
}
