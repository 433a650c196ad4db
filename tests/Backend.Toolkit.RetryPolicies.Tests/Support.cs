using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.RetryPolicies.Tests;

/// <summary>Time in which every wait passes at once, and is noted.</summary>
internal sealed class InstantTime : FakeTimeProvider
{
    public List<TimeSpan> Waits { get; } = [];

    /// <summary>When set and true for the number of the wait (1 is the first), the wait does not pass.</summary>
    public Func<int, bool>? Hold { get; set; }

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        ITimer timer = base.CreateTimer(callback, state, dueTime, period);
        Waits.Add(dueTime);
        if (Hold?.Invoke(Waits.Count) != true)
        {
            Advance(dueTime);
        }

        return timer;
    }
}

/// <summary>Time that counts how often anything asks for it.</summary>
internal sealed class CountingTime : TimeProvider
{
    private int _reads;

    public int Reads => _reads;

    public override long GetTimestamp()
    {
        Interlocked.Increment(ref _reads);
        return 0;
    }

    public override DateTimeOffset GetUtcNow()
    {
        Interlocked.Increment(ref _reads);
        return default;
    }

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        Interlocked.Increment(ref _reads);
        return System.CreateTimer(callback, state, dueTime, period);
    }
}

internal sealed record Entry(LogLevel Level, int Id, string Message, Exception? Exception);

/// <summary>Keeps what is logged, by all categories of a host or by one policy.</summary>
internal sealed class LogList : ILogger<RetryPolicy>, ILoggerProvider
{
    private readonly Lock _gate = new();
    private readonly List<Entry> _entries = [];

    public Entry[] Entries
    {
        get
        {
            lock (_gate)
            {
                return [.. _entries];
            }
        }
    }

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        lock (_gate)
        {
            _entries.Add(new Entry(logLevel, eventId.Id, formatter(state, exception), exception));
        }
    }

    public ILogger CreateLogger(string categoryName) => categoryName == typeof(RetryPolicy).FullName ? this : Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance;

    public void Dispose()
    {
    }
}

/// <summary>Listens to the meter for one name, until disposed.</summary>
internal sealed class Metrics : IDisposable
{
    private readonly MeterListener _listener = new();
    private readonly Lock _gate = new();
    private readonly List<(string Instrument, double Value, string? Reason)> _seen = [];

    public Metrics(string name)
    {
        _listener.InstrumentPublished = static (instrument, listener) =>
        {
            if (instrument.Meter.Name == "Backend.Toolkit.RetryPolicies")
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Keep(name, instrument, value, tags));
        _listener.SetMeasurementEventCallback<int>((instrument, value, tags, _) => Keep(name, instrument, value, tags));
        _listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Keep(name, instrument, value, tags));
        _listener.Start();
    }

    public (string Instrument, double Value, string? Reason)[] Seen
    {
        get
        {
            lock (_gate)
            {
                return [.. _seen];
            }
        }
    }

    public void Observe() => _listener.RecordObservableInstruments();

    public void Dispose() => _listener.Dispose();

    private void Keep(string name, Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        string? reason = null;
        bool ours = false;
        foreach (KeyValuePair<string, object?> tag in tags)
        {
            ours |= tag is { Key: "name", Value: string text } && text == name;
            reason = tag.Key == "reason" ? (string?)tag.Value : reason;
        }

        if (ours)
        {
            lock (_gate)
            {
                _seen.Add((instrument.Name, value, reason));
            }
        }
    }
}

/// <summary>Tests that turn telemetry on, or that need it off, do not run beside each other.</summary>
[CollectionDefinition("telemetry", DisableParallelization = true)]
public sealed class TelemetryCollection;
