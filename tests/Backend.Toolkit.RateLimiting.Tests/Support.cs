using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.RateLimiting.Tests;

internal static class Limiters
{
    public static TokenBucketLimiter Bucket(TimeProvider? time, params RateLimit[] limits) => new(With(new TokenBucketLimiterOptions(), limits), time);

    public static SlidingWindowLimiter Window(TimeProvider? time, SlidingWindowMode mode, params RateLimit[] limits) =>
        new(With(new SlidingWindowLimiterOptions { Mode = mode }, limits), time);

    public static KeyedTokenBucketLimiter<string> Keyed(TimeProvider? time, params RateLimit[] limits) =>
        new(With(new KeyedTokenBucketLimiterOptions<string> { KeySelector = key => key }, limits), time);

    public static TOptions With<TOptions>(TOptions options, params RateLimit[] limits)
        where TOptions : LimiterOptions
    {
        foreach (RateLimit limit in limits)
        {
            options.Limits.Add(limit);
        }

        return options;
    }

    public static RateLimit PerSecond(double permits, int? burst = null) => new(permits, TimeSpan.FromSeconds(1), burst);

    public static RateLimit Per(double permits, double seconds, int? burst = null) => new(permits, TimeSpan.FromSeconds(seconds), burst);
}

internal sealed record LogEntry(LogLevel Level, int Id, string Message, Exception? Exception);

/// <summary>Keeps what is logged, by all categories of a host or by one limiter.</summary>
internal sealed class LogList : ILogger<TokenBucketLimiter>, ILogger<KeyedTokenBucketLimiter<string>>, ILoggerProvider
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
            _entries.Add(new LogEntry(logLevel, eventId.Id, formatter(state, exception), exception));
        }
    }

    public void Dispose()
    {
    }
}

/// <summary>Time that is set by hand, also back.</summary>
internal sealed class HandTime : TimeProvider
{
    public TimeSpan Now { get; set; }

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override long GetTimestamp() => Now.Ticks;
}

/// <summary>Time that counts the timers that are made.</summary>
internal sealed class TimerCountingTime : FakeTimeProvider
{
    public int Timers { get; private set; }

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        Timers++;
        return base.CreateTimer(callback, state, dueTime, period);
    }
}
