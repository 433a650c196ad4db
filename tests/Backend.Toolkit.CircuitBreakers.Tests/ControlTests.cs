using System.Text.Json;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.CircuitBreakers.Tests;

/// <summary>Events, isolation, reset, reload, capture and restore.</summary>
public sealed class ControlTests
{
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public void StateChanged_tells_every_change_in_order()
    {
        CircuitBreaker breaker = Circuits.New(_time, o => o.Name = "payments");
        var changes = new List<(CircuitState, CircuitState)>();
        breaker.StateChanged += (sender, change) =>
        {
            sender.Should().BeSameAs(breaker);
            change.Name.Should().Be("payments");
            changes.Add((change.Previous, change.Current));
        };

        breaker.Fail(4);
        _time.Advance(Circuits.Break);
        _ = breaker.State;
        changes.Should().HaveCount(1, "half-open is told at the first probe, not by the clock");
        breaker.Enter().Failure();
        _time.Advance(TimeSpan.FromSeconds(10));
        breaker.Enter().Success();
        breaker.Isolate();
        breaker.Isolate();
        breaker.Reset();

        changes.Should().Equal(
            (CircuitState.Closed, CircuitState.Open),
            (CircuitState.Open, CircuitState.HalfOpen),
            (CircuitState.HalfOpen, CircuitState.Open),
            (CircuitState.Open, CircuitState.HalfOpen),
            (CircuitState.HalfOpen, CircuitState.Closed),
            (CircuitState.Closed, CircuitState.Isolated),
            (CircuitState.Isolated, CircuitState.Closed));
    }

    [Fact]
    public void A_handler_that_throws_harms_nobody()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        var states = new List<CircuitState>();
        breaker.StateChanged += (_, _) => throw new InvalidOperationException("handler");
        breaker.StateChanged += (_, change) => states.Add(change.Current);

        breaker.Fail(4);
        _time.Advance(Circuits.Break);
        breaker.Enter().Success();

        states.Should().Equal([CircuitState.Open, CircuitState.HalfOpen, CircuitState.Closed], "the other handlers are told all the same");
    }

    [Fact]
    public void A_logger_that_throws_harms_nobody_and_later_changes_are_still_told()
    {
        var breaker = new CircuitBreaker(Circuits.Options(o => o.BreakDurationFor = _ => TimeSpan.Zero), _time, new ThrowingLogger());
        var states = new List<CircuitState>();
        breaker.StateChanged += (_, change) => states.Add(change.Current);

        breaker.Fail(4);
        _time.Advance(Circuits.Break);
        breaker.Enter().Success();

        states.Should().Equal(CircuitState.Open, CircuitState.HalfOpen, CircuitState.Closed);
    }

    [Fact]
    public async Task A_handler_is_called_outside_any_lock()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        bool rejected = false;
        breaker.StateChanged += (_, _) => rejected = Task.Run(breaker.Rejects).WaitAsync(TimeSpan.FromSeconds(10)).GetAwaiter().GetResult();

        await Task.Run(() => breaker.Fail(4), TestContext.Current.CancellationToken);

        rejected.Should().BeTrue();
    }

    [Fact]
    public void A_handler_may_change_the_circuit_itself()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        var states = new List<CircuitState>();
        breaker.StateChanged += (_, change) =>
        {
            states.Add(change.Current);
            if (change.Current == CircuitState.Open)
            {
                breaker.Reset();
            }
        };

        breaker.Fail(4);

        states.Should().Equal(CircuitState.Open, CircuitState.Closed);
        breaker.State.Should().Be(CircuitState.Closed);
    }

    [Fact]
    public void Isolate_rejects_until_reset_however_long()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        CircuitPermit before = breaker.Enter();

        breaker.Isolate();
        before.Success();
        _time.Advance(TimeSpan.FromDays(1000));

        breaker.State.Should().Be(CircuitState.Isolated);
        breaker.Rejects().Should().BeTrue();
        breaker.Reset();
        breaker.Rejects().Should().BeFalse();
    }

    [Fact]
    public void Isolate_in_half_open_makes_the_probe_out_a_no_op()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time);
        CircuitPermit probe = breaker.Enter();

        breaker.Isolate();
        probe.Success();

        breaker.State.Should().Be(CircuitState.Isolated);
    }

    [Fact]
    public void Reset_closes_with_an_empty_window()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        breaker.Fail(3);

        breaker.Reset();

        breaker.Counts.Should().Be(default(CallCounts));
        Circuits.Open(_time).Invoking(b => b.Reset()).Should().NotThrow();
    }

    [Fact]
    public void A_reload_keeps_the_window()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        breaker.Fail(3);

        breaker.Update(Circuits.Options(o => o.Window = TimeSpan.FromMinutes(5)));
        breaker.Counts.Should().Be(new CallCounts(0, 3, 0));
        breaker.Fail();

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void A_reload_keeps_an_open_circuit_open_until_the_same_instant()
    {
        CircuitBreaker breaker = Circuits.Open(_time);

        breaker.Update(Circuits.Options(o => (o.BreakDuration, o.MaxBreakDuration) = (TimeSpan.FromHours(1), TimeSpan.FromHours(1))));

        _time.Advance(Circuits.Break - TimeSpan.FromTicks(1));
        breaker.State.Should().Be(CircuitState.Open);
        _time.Advance(TimeSpan.FromTicks(1));
        breaker.State.Should().Be(CircuitState.HalfOpen);
    }

    [Fact]
    public void A_reload_keeps_the_probes_that_are_out()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time, o => (o.ProbeCount, o.ProbeSuccesses) = (2, 2));
        CircuitPermit first = breaker.Enter();
        CircuitPermit second = breaker.Enter();

        breaker.Update(Circuits.Options(o => o.ProbeSuccesses = 2));
        first.Success();
        second.Success();

        breaker.State.Should().Be(CircuitState.Closed);
    }

    [Fact]
    public void A_reload_that_shortens_the_window_cuts_the_bucket_that_has_begun()
    {
        CircuitBreaker breaker = Circuits.New(_time, o => o.Window = TimeSpan.FromDays(1));
        breaker.Fail(3);

        breaker.Update(Circuits.Options(o => o.Window = TimeSpan.FromSeconds(10)));
        _time.Advance(TimeSpan.FromSeconds(11));

        breaker.Counts.Should().Be(default(CallCounts));
    }

    [Fact]
    public void A_capture_settles_what_time_has_made_true()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time);
        breaker.Enter();
        _time.Advance(TimeSpan.FromSeconds(31));

        breaker.Capture().Should().BeEquivalentTo(new { State = CircuitState.Open, RemainingBreak = TimeSpan.FromSeconds(9), Openings = 2 });
    }

    [Fact]
    public void A_late_answer_about_the_break_of_an_earlier_opening_is_dropped()
    {
        CircuitBreaker? breaker = null;
        int asked = 0;
        breaker = Circuits.New(_time, o => o.BreakDurationFor = _ =>
        {
            if (++asked == 1)
            {
                // While this opening waits for its break, the fixed one ends, and a probe fails.
                _time.Advance(Circuits.Break);
                breaker!.Enter().Failure();
                return TimeSpan.FromHours(3);
            }

            return TimeSpan.FromSeconds(2);
        });

        breaker.Fail(4);

        breaker.Capture().RemainingBreak.Should().Be(TimeSpan.FromSeconds(2));
    }

    [Fact]
    public void An_invalid_update_throws_and_changes_nothing()
    {
        CircuitBreaker breaker = Circuits.New(_time);

        breaker.Invoking(b => b.Update(Circuits.Options(o => o.FailureRatio = double.NaN))).Should().Throw<OptionsValidationException>();
        breaker.Fail(4);

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void Options_are_copied()
    {
        CircuitBreakerOptions options = Circuits.Options();
        var breaker = new CircuitBreaker(options, _time);

        options.MinimumThroughput = 1000;
        options.FailOn<int>(_ => true);
        breaker.Fail(4);

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void A_captured_break_goes_on_elsewhere_less_the_wall_time_between()
    {
        CircuitBreaker source = Circuits.Open(_time);
        _time.Advance(TimeSpan.FromSeconds(1));
        string json = JsonSerializer.Serialize(source.Capture());
        var elsewhere = new FakeTimeProvider(_time.GetUtcNow() + TimeSpan.FromSeconds(1.5));
        CircuitBreaker target = Circuits.New(elsewhere);

        target.Restore(JsonSerializer.Deserialize<CircuitSnapshot>(json));

        target.State.Should().Be(CircuitState.Open);
        target.Capture().RemainingBreak.Should().Be(TimeSpan.FromSeconds(2.5));
    }

    [Theory]
    [InlineData(-3600, 5)]
    [InlineData(3600, 0)]
    public void The_elapsed_wall_time_is_clamped_to_what_remained(int clockJumpSeconds, int remainingSeconds)
    {
        CircuitSnapshot snapshot = Circuits.Open(_time).Capture();
        var elsewhere = new FakeTimeProvider(_time.GetUtcNow() + TimeSpan.FromSeconds(clockJumpSeconds));
        CircuitBreaker target = Circuits.New(elsewhere);

        target.Restore(snapshot);

        target.Capture().RemainingBreak.Should().Be(TimeSpan.FromSeconds(remainingSeconds));
    }

    [Fact]
    public void A_restored_circuit_goes_on_growing_its_break()
    {
        CircuitBreaker source = Circuits.HalfOpen(_time);
        source.Enter().Failure();
        CircuitBreaker target = Circuits.New(_time);

        target.Restore(source.Capture());
        _time.Advance(TimeSpan.FromSeconds(10));
        target.Enter().Failure();

        target.Capture().Should().BeEquivalentTo(new { Openings = 3, RemainingBreak = TimeSpan.FromSeconds(20) });
    }

    [Theory]
    [InlineData(CircuitState.Closed)]
    [InlineData(CircuitState.Isolated)]
    [InlineData(CircuitState.HalfOpen)]
    public void Other_states_are_restored_as_they_were(CircuitState state)
    {
        CircuitBreaker source = state == CircuitState.HalfOpen ? Circuits.HalfOpen(_time) : Circuits.New(_time);
        if (state == CircuitState.Isolated)
        {
            source.Isolate();
        }

        CircuitBreaker target = Circuits.Open(_time);
        target.Restore(source.Capture());

        target.State.Should().Be(state);
    }

    [Fact]
    public void An_impossible_snapshot_is_refused_and_changes_nothing()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        CircuitSnapshot[] impossible =
        [
            new((CircuitState)9, TimeSpan.Zero, 0, default),
            new(CircuitState.Open, TimeSpan.FromTicks(-1), 1, default),
            new(CircuitState.Open, TimeSpan.MaxValue, 1, default),
            new(CircuitState.Open, TimeSpan.Zero, -1, default),
        ];
        breaker.Restore(new CircuitSnapshot(CircuitState.HalfOpen, TimeSpan.FromHours(5), 1, _time.GetUtcNow()));
        breaker.State.Should().Be(CircuitState.HalfOpen, "half-open has no break left, whatever the snapshot says");
        breaker.Reset();

        impossible.Should().AllSatisfy(snapshot => breaker.Invoking(b => b.Restore(snapshot)).Should().Throw<ArgumentOutOfRangeException>());
        breaker.State.Should().Be(CircuitState.Closed);
        breaker.Restore(default);
        breaker.State.Should().Be(CircuitState.Closed);
    }

    private sealed class ThrowingLogger : ILogger<CircuitBreaker>
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            throw new InvalidOperationException("logger");
    }
}
