using System.Diagnostics.Metrics;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.CircuitBreakers.Tests;

public sealed class TelemetryTests
{
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public void A_named_circuit_reports_its_state_while_it_lives()
    {
        string name = Guid.NewGuid().ToString();
        CircuitBreaker breaker = Circuits.New(_time, o => o.Name = name);

        Gauge("backend.toolkit.circuit_breaker.state", name).Should().Equal(0);
        breaker.Fail(4);
        Gauge("backend.toolkit.circuit_breaker.state", name).Should().Equal(1);
        _time.Advance(Circuits.Break);
        Gauge("backend.toolkit.circuit_breaker.state", name).Should().Equal(2);
        breaker.Isolate();

        Gauge("backend.toolkit.circuit_breaker.state", name).Should().Equal(3);
    }

    [Fact]
    public void A_circuit_that_nobody_holds_is_not_kept_alive_by_its_gauge()
    {
        string name = Guid.NewGuid().ToString();

        WeakReference reference = MakeAndForget(name);
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();

        reference.IsAlive.Should().BeFalse();
        Gauge("backend.toolkit.circuit_breaker.state", name).Should().BeEmpty();
    }

    [Fact]
    public void A_group_reports_counts_by_state_and_no_key()
    {
        string name = Guid.NewGuid().ToString();
        using var group = new CircuitBreakerGroup<string>(new CircuitBreakerGroupOptions { Name = name, ConsecutiveFailures = 1 }, _time);
        group.For("a");
        group.For("b");
        group.For("c").Fail();

        Gauge("backend.toolkit.circuit_breaker.group.circuits", name).Should().Equal(2, 1, 0, 0);
        Gauge("backend.toolkit.circuit_breaker.state", name).Should().BeEmpty();
        group.Dispose();
        Gauge("backend.toolkit.circuit_breaker.group.circuits", name).Should().BeEmpty();
    }

    [Fact]
    public void Rejections_and_transitions_are_counted()
    {
        string name = Guid.NewGuid().ToString();
        var seen = new List<string>();
        using MeterListener listener = Listen((instrument, value, tags) => seen.Add(
            $"{instrument.Name} {value} {string.Join(' ', tags.Where(tag => tag.Key != "name").Select(tag => $"{tag.Key}={tag.Value}"))}"), name);
        CircuitBreaker breaker = Circuits.Open(_time, o => o.Name = name);

        breaker.Rejects();
        breaker.Update(Circuits.Options(o => o.Shadow = true));
        breaker.Rejects();

        seen.Should().Equal(
            "backend.toolkit.circuit_breaker.transitions 1 state=open",
            "backend.toolkit.circuit_breaker.rejected 1 shadow=False",
            "backend.toolkit.circuit_breaker.rejected 1 shadow=True");
    }

    [Fact]
    public void A_listener_that_throws_does_not_make_TryEnter_throw()
    {
        string name = Guid.NewGuid().ToString();
        CircuitBreaker breaker = Circuits.Open(_time, o => o.Name = name);
        using MeterListener listener = Listen((_, _, _) => throw new InvalidOperationException("listener"), name);

        breaker.Rejects().Should().BeTrue();
        _time.Advance(Circuits.Break);
        breaker.Enter().Success();

        breaker.State.Should().Be(CircuitState.Closed);
    }

    [Fact]
    public void Nobody_listening_costs_no_reading_of_the_clock()
    {
        var clock = new CountingTimeProvider();
        var breaker = new CircuitBreaker(new CircuitBreakerOptions { Name = "counting" }, clock);
        clock.Reads = 0;

        for (int i = 0; i < 100; i++)
        {
            breaker.TryEnter(out CircuitPermit permit);
            permit.Success();
        }

        clock.Reads.Should().Be(100, "one read per report, for the bucket, and none for telemetry");
        clock.WallReads.Should().Be(0);
    }

    [Fact]
    public void Only_capture_and_restore_read_the_wall_clock()
    {
        var clock = new CountingTimeProvider();
        var breaker = new CircuitBreaker(new CircuitBreakerOptions { ConsecutiveFailures = 1, SlowCallDuration = TimeSpan.FromSeconds(1) }, clock);

        breaker.Fail();
        _ = breaker.State;
        breaker.Rejects();
        breaker.Isolate();
        breaker.Reset();
        clock.WallReads.Should().Be(0);
        breaker.Fail();
        breaker.Restore(breaker.Capture());

        clock.WallReads.Should().Be(2);
    }

    private static WeakReference MakeAndForget(string name) => new(new CircuitBreaker(new CircuitBreakerOptions { Name = name }));

    private static List<int> Gauge(string instrument, string name)
    {
        var values = new List<int>();
        using var listener = new MeterListener { InstrumentPublished = (found, self) => Enable(found, self, instrument) };
        listener.SetMeasurementEventCallback<int>((_, value, tags, _) =>
        {
            if (tags.ToArray().Contains(new KeyValuePair<string, object?>("name", name)))
            {
                values.Add(value);
            }
        });
        listener.Start();
        listener.RecordObservableInstruments();
        return values;
    }

    private static MeterListener Listen(Action<Instrument, long, KeyValuePair<string, object?>[]> record, string name)
    {
        var listener = new MeterListener { InstrumentPublished = (found, self) => Enable(found, self, found.Name) };
        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) =>
        {
            KeyValuePair<string, object?>[] all = tags.ToArray();
            if (all.Contains(new KeyValuePair<string, object?>("name", name)))
            {
                record(instrument, value, all);
            }
        });
        listener.Start();
        return listener;
    }

    private static void Enable(Instrument found, MeterListener listener, string instrument)
    {
        if (found.Meter.Name == "Backend.Toolkit.CircuitBreakers" && found.Name == instrument)
        {
            listener.EnableMeasurementEvents(found);
        }
    }

    private sealed class CountingTimeProvider : TimeProvider
    {
        public int Reads { get; set; }

        public int WallReads { get; private set; }

        public override long GetTimestamp()
        {
            Reads++;
            return 1;
        }

        public override DateTimeOffset GetUtcNow()
        {
            WallReads++;
            return DateTimeOffset.UnixEpoch;
        }
    }
}
