using Backend.Toolkit.Tests;
using Microsoft.Extensions.Logging;
using StackExchange.Redis;

namespace Backend.Toolkit.RateLimiting.Redis.Tests;

internal static class Limiters
{
    private static int _names;

    /// <summary>A limiter of a name of its own, unless told otherwise; the store has time enough.</summary>
    public static RedisTokenBucketLimiter<string> Make(
        IConnectionMultiplexer connection, RateLimit limit, Action<RedisTokenBucketLimiterOptions<string>>? configure = null, TimeProvider? time = null, LogList? log = null) =>
        new(Options(connection, limit, configure), time, log);

    public static RedisTokenBucketLimiterOptions<string> Options(IConnectionMultiplexer connection, RateLimit limit, Action<RedisTokenBucketLimiterOptions<string>>? configure = null)
    {
        var options = new RedisTokenBucketLimiterOptions<string>
        {
            Name = $"limiter-{Interlocked.Increment(ref _names)}",
            Connection = connection,
            KeySelector = key => key,
            StoreTimeout = TimeSpan.FromSeconds(10),
        };
        options.Limits.Add(limit);
        configure?.Invoke(options);
        return options;
    }

    public static RateLimit PerSecond(double permits, int? burst = null) => new(permits, TimeSpan.FromSeconds(1), burst);

    public static RateLimit Per(double permits, double seconds, int? burst = null) => new(permits, TimeSpan.FromSeconds(seconds), burst);

    /// <summary>Calls of scripts that the server has run.</summary>
    public static async Task<long> ScriptCallsAsync(this IConnectionMultiplexer connection)
    {
        long calls = 0;
        foreach (IGrouping<string, KeyValuePair<string, string>> group in await connection.GetServers()[0].InfoAsync("commandstats"))
        {
            calls += group.Where(stat => stat.Key is "cmdstat_evalsha" or "cmdstat_eval").Sum(stat => long.Parse(stat.Value.Split("calls=")[1].Split(',')[0]));
        }

        return calls;
    }
}

internal sealed record LogEntry(LogLevel Level, int Id, string Message);

/// <summary>Keeps what is logged, by all categories of a host or by one limiter.</summary>
internal sealed class LogList : ILogger<RedisTokenBucketLimiter<string>>, ILoggerProvider
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

        // The first call of a script is two, and tests count calls.
        await new BucketScript().AcquireAsync(Connection.GetDatabase(), "first", new BucketPlan([Limiters.PerSecond(1)]), 0, 0);
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
