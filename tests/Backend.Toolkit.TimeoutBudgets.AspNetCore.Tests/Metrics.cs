using System.Collections.Concurrent;
using System.Diagnostics.Metrics;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore.Tests;

/// <summary>What is counted under one name; counts of tests that run at the same time are told apart by it.</summary>
internal sealed class Metrics : IDisposable
{
    private readonly ConcurrentDictionary<string, long> _counts = new();
    private readonly MeterListener _listener = new();

    public Metrics(string name, bool throws = false)
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == "Backend.Toolkit.TimeoutBudgets.AspNetCore")
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) =>
        {
            string labels = "";
            bool ours = false;
            foreach ((string key, object? label) in tags)
            {
                ours |= key == "name" && Equals(label, name);
                labels += key == "name" ? "" : $" {key}={label}";
            }

            if (ours)
            {
                _counts.AddOrUpdate(instrument.Name.Replace("backend.toolkit.timeout_budget.requests.", "", StringComparison.Ordinal) + labels, value, (_, sum) => sum + value);
                if (throws)
                {
                    throw new InvalidOperationException("listener");
                }
            }
        });
        _listener.Start();
    }

    public IReadOnlyDictionary<string, long> Counts => _counts;

    public void Dispose() => _listener.Dispose();
}
