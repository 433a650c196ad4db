using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using System.Text.Json.Serialization;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Idempotency.Tests;

internal sealed record Receipt(int Number, string Text);

[JsonSerializable(typeof(Receipt))]
[JsonSerializable(typeof(string))]
[JsonSerializable(typeof(int))]
[JsonSerializable(typeof(Unwritable))]
[JsonSerializable(typeof(Strict))]
internal sealed partial class Json : JsonSerializerContext;

/// <summary>What refuses values that it once took.</summary>
internal sealed record Strict
{
    public Strict(int number) => Number = number > 100 ? number : throw new ArgumentOutOfRangeException(nameof(number));

    public int Number { get; }
}

/// <summary>What JSON cannot hold.</summary>
internal sealed record Unwritable(double Value);

internal sealed record Entry(LogLevel Level, int Id, string Message, Exception? Exception);

/// <summary>Keeps what is logged, by all categories of a host or by one object.</summary>
internal sealed class LogList : ILogger<IdempotentExecutor>, ILogger<MemoryIdempotencyStore>, ILoggerProvider
{
    private readonly ConcurrentQueue<Entry> _entries = [];

    public Entry[] Entries => [.. _entries];

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
        _entries.Enqueue(new Entry(logLevel, eventId.Id, formatter(state, exception), exception));

    public ILogger CreateLogger(string categoryName) =>
        categoryName.StartsWith("Backend.Toolkit.", StringComparison.Ordinal) ? this : Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance;

    public void Dispose()
    {
    }
}

/// <summary>Listens to the meter for one name, until disposed.</summary>
internal sealed class Metrics : IDisposable
{
    private readonly MeterListener _listener = new();
    private readonly ConcurrentQueue<string> _seen = [];

    public Metrics(string name)
    {
        _listener.InstrumentPublished = static (instrument, listener) =>
        {
            if (instrument.Meter.Name == "Backend.Toolkit.Idempotency")
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Keep(name, instrument, value, tags));
        _listener.SetMeasurementEventCallback<int>((instrument, value, tags, _) => Keep(name, instrument, value, tags));
        _listener.Start();
    }

    /// <summary>For example <c>begun started</c>; a gauge with its value.</summary>
    public string[] Seen => [.. _seen];

    public void Observe() => _listener.RecordObservableInstruments();

    public void Dispose() => _listener.Dispose();

    private void Keep(string name, Instrument instrument, long value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        string? result = null;
        bool ours = false;
        foreach (KeyValuePair<string, object?> tag in tags)
        {
            ours |= tag is { Key: "name", Value: string text } && text == name;
            result = tag.Key == "result" ? (string?)tag.Value : result;
        }

        if (ours)
        {
            string last = instrument.Name.Split('.')[^1];
            _seen.Enqueue(instrument.IsObservable ? $"{last} {value}" : result is null ? last : $"{last} {result}");
        }
    }
}

/// <summary>Tests that turn telemetry on, or that need it off, do not run beside each other.</summary>
[CollectionDefinition("telemetry", DisableParallelization = true)]
public sealed class TelemetryCollection;
