using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.CircuitBreakers.Tests;

public sealed class HalfOpenCircuitTests
{
    private static readonly TimeSpan Lease = TimeSpan.FromSeconds(30);

    private readonly FakeTimeProvider _time = new();

    [Fact]
    public void An_open_circuit_rejects_until_its_break_is_over()
    {
        CircuitBreaker breaker = Circuits.Open(_time);

        _time.Advance(Circuits.Break - TimeSpan.FromTicks(1));
        breaker.Rejects().Should().BeTrue();
        _time.Advance(TimeSpan.FromTicks(1));

        breaker.Rejects().Should().BeFalse();
    }

    [Fact]
    public void An_open_circuit_whose_break_is_over_reads_half_open_without_traffic()
    {
        CircuitBreaker breaker = Circuits.Open(_time);

        _time.Advance(Circuits.Break);

        breaker.State.Should().Be(CircuitState.HalfOpen);
    }

    [Fact]
    public void It_admits_exactly_as_many_probes_at_once_as_it_is_told()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time, o => (o.ProbeCount, o.ProbeSuccesses) = (3, 5));

        CircuitPermit first = breaker.Enter();
        breaker.Enter();
        breaker.Enter();
        breaker.Rejects().Should().BeTrue();
        first.Success();

        breaker.Rejects().Should().BeFalse("a slot is free again");
        breaker.Rejects().Should().BeTrue();
    }

    [Fact]
    public void It_closes_after_that_many_successful_probes_with_an_empty_window()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time, o => o.ProbeSuccesses = 2);

        breaker.Enter().Success();
        breaker.State.Should().Be(CircuitState.HalfOpen);
        breaker.Enter().Success();

        breaker.State.Should().Be(CircuitState.Closed);
        breaker.Counts.Should().Be(default(CallCounts));
    }

    [Fact]
    public void One_failed_probe_opens_it_again()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time, o => (o.ProbeCount, o.ProbeSuccesses) = (2, 2));
        CircuitPermit other = breaker.Enter();

        breaker.Enter().Failure();

        breaker.State.Should().Be(CircuitState.Open);
        other.Success();
        breaker.State.Should().Be(CircuitState.Open, "the other probe belongs to a round that is over");
    }

    [Fact]
    public void A_probe_completed_twice_counts_once()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time, o => o.ProbeSuccesses = 2);
        CircuitPermit permit = breaker.Enter();

        permit.Success();
        permit.Success();
        permit.Failure();

        breaker.State.Should().Be(CircuitState.HalfOpen);
    }

    [Fact]
    public void A_copy_of_a_used_permit_cannot_take_the_slot_of_the_next_probe()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time, o => o.ProbeSuccesses = 2);
        CircuitPermit first = breaker.Enter();
        first.Success();
        breaker.Enter();

        first.Release();

        breaker.Rejects().Should().BeTrue("the second probe is still out, in the same slot");
    }

    [Fact]
    public void A_probe_that_never_answers_cannot_wedge_the_circuit()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time);
        breaker.Enter();

        _time.Advance(Lease - TimeSpan.FromTicks(1));
        breaker.State.Should().Be(CircuitState.HalfOpen);
        breaker.Rejects().Should().BeTrue();
        _time.Advance(TimeSpan.FromTicks(1));

        breaker.State.Should().Be(CircuitState.Open);
        _time.Advance(TimeSpan.FromSeconds(10) - TimeSpan.FromTicks(1));
        breaker.State.Should().Be(CircuitState.Open, "a lost probe grows the break");
        _time.Advance(TimeSpan.FromTicks(1));
        breaker.Enter().Success();
        breaker.State.Should().Be(CircuitState.Closed);
    }

    [Fact]
    public void A_round_past_its_lease_reopens_as_of_the_end_of_the_lease()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time);
        breaker.Enter();

        _time.Advance(Lease + TimeSpan.FromSeconds(10));

        breaker.State.Should().Be(CircuitState.HalfOpen, "both the lease and the next break are over");
        breaker.Enter();
        breaker.Rejects().Should().BeTrue();
    }

    [Fact]
    public void An_answer_after_the_lease_does_not_close_the_circuit()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time);
        CircuitPermit probe = breaker.Enter();

        _time.Advance(Lease);
        probe.Success();

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void A_round_that_ended_by_cancellations_alone_reopens_with_an_ungrown_break()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time);
        breaker.Enter().Release();

        _time.Advance(Lease);

        breaker.State.Should().Be(CircuitState.Open);
        _time.Advance(Circuits.Break);
        breaker.State.Should().Be(CircuitState.HalfOpen);
    }

    [Fact]
    public void A_released_probe_frees_its_slot_within_the_round()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time);

        breaker.Enter().Release();
        breaker.Enter().Success();

        breaker.State.Should().Be(CircuitState.Closed);
    }

    [Fact]
    public void The_lease_runs_from_the_first_probe_of_the_round()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time, o => (o.ProbeCount, o.ProbeLease) = (2, TimeSpan.FromSeconds(8)));
        _time.Advance(TimeSpan.FromHours(1));
        breaker.Enter();
        _time.Advance(TimeSpan.FromSeconds(7));
        breaker.Enter();

        _time.Advance(TimeSpan.FromSeconds(1));

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void The_default_lease_is_never_shorter_than_a_slow_call()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time, o => o.SlowCallDuration = TimeSpan.FromMinutes(2));
        breaker.Enter();

        _time.Advance(TimeSpan.FromMinutes(2) - TimeSpan.FromTicks(1));
        breaker.State.Should().Be(CircuitState.HalfOpen);
        _time.Advance(TimeSpan.FromTicks(1));

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void A_probe_that_succeeds_slowly_has_failed()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time, o => o.SlowCallDuration = TimeSpan.FromSeconds(1));
        CircuitPermit probe = breaker.Enter();

        _time.Advance(TimeSpan.FromSeconds(1.5));
        probe.Success();

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void The_break_grows_with_each_opening_in_a_row_up_to_the_cap()
    {
        CircuitBreaker breaker = Circuits.Open(_time);

        foreach (int seconds in new[] { 5, 10, 20, 40, 60, 60 })
        {
            _time.Advance(TimeSpan.FromSeconds(seconds) - TimeSpan.FromTicks(1));
            breaker.State.Should().Be(CircuitState.Open, "the break is {0} s", seconds);
            _time.Advance(TimeSpan.FromTicks(1));
            breaker.Enter().Failure();
        }
    }

    [Fact]
    public void The_break_starts_small_again_after_the_circuit_was_closed()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time);
        breaker.Enter().Failure();
        _time.Advance(TimeSpan.FromSeconds(10));
        breaker.Enter().Success();

        breaker.Fail(4);

        _time.Advance(Circuits.Break);
        breaker.State.Should().Be(CircuitState.HalfOpen);
    }

    [Fact]
    public void Growth_of_one_is_a_fixed_break()
    {
        CircuitBreaker breaker = Circuits.Open(_time, o => o.BreakGrowth = 1);

        for (int i = 0; i < 5; i++)
        {
            _time.Advance(Circuits.Break);
            breaker.Enter().Failure();
        }

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void Jitter_spreads_the_ends_of_breaks_over_its_fraction()
    {
        var remaining = new List<TimeSpan>();

        for (int i = 0; i < 200; i++)
        {
            remaining.Add(Circuits.Open(_time, o => o.BreakJitter = 0.1).Capture().RemainingBreak);
        }

        remaining.Should().OnlyContain(r => r >= Circuits.Break && r <= Circuits.Break * 1.1);
        (remaining.Max() - remaining.Min()).Should().BeGreaterThan(Circuits.Break * 0.05);
    }

    [Fact]
    public void Jitter_comes_after_the_cap()
    {
        var remaining = new List<TimeSpan>();

        for (int i = 0; i < 50; i++)
        {
            remaining.Add(Circuits.Open(_time, o => (o.BreakJitter, o.MaxBreakDuration) = (0.5, Circuits.Break)).Capture().RemainingBreak);
        }

        remaining.Should().OnlyHaveUniqueItems("a fleet at the cap still spreads");
    }

    [Theory]
    [InlineData(10)]
    [InlineData(0)]
    public void The_default_lease_is_thirty_seconds_where_slow_calls_are_shorter_or_off(int slowSeconds)
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time, o => o.SlowCallDuration = slowSeconds > 0 ? TimeSpan.FromSeconds(slowSeconds) : null);
        breaker.Enter();

        _time.Advance(Lease - TimeSpan.FromTicks(1));
        breaker.State.Should().Be(CircuitState.HalfOpen);
        _time.Advance(TimeSpan.FromTicks(1));

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void A_clock_of_another_frequency_is_rounded_so_that_waiting_as_long_is_enough()
    {
        var clock = new Clock(new Nanoseconds());

        clock.ToUnits(TimeSpan.FromTicks(1)).Should().Be(100);
        clock.ToTimeSpan(101).Should().Be(TimeSpan.FromTicks(2));
        new Clock(TimeProvider.System).ToUnits(TimeSpan.FromTicks(1)).Should().Be(1, "a duration is never rounded to nothing");
        new Clock(TimeProvider.System).Staleness.Should().BeGreaterThan(TimeSpan.FromMilliseconds(15));
    }

    [Fact]
    public void A_delegate_gives_the_break_from_the_openings_in_a_row()
    {
        var asked = new List<int>();
        CircuitBreaker breaker = Circuits.Open(_time, o => o.BreakDurationFor = n =>
        {
            asked.Add(n);
            return TimeSpan.FromSeconds(2 * n);
        });

        _time.Advance(TimeSpan.FromSeconds(2));
        breaker.Enter().Failure();
        _time.Advance(TimeSpan.FromSeconds(4) - TimeSpan.FromTicks(1));
        breaker.State.Should().Be(CircuitState.Open);
        _time.Advance(TimeSpan.FromTicks(1));

        breaker.State.Should().Be(CircuitState.HalfOpen);
        asked.Should().Equal(1, 2);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    [InlineData(24 * 3600 + 1)]
    [InlineData(int.MinValue)]
    public void A_delegate_that_returns_nonsense_falls_back_to_the_fixed_break(int seconds)
    {
        CircuitBreaker breaker = Circuits.Open(_time, o => o.BreakDurationFor = _ => TimeSpan.FromSeconds(seconds));

        breaker.Capture().RemainingBreak.Should().Be(Circuits.Break);
    }

    [Fact]
    public void A_delegate_that_throws_falls_back_to_the_fixed_break()
    {
        CircuitBreaker breaker = Circuits.Open(_time, o => o.BreakDurationFor = _ => throw new InvalidOperationException("broken"));

        breaker.Capture().RemainingBreak.Should().Be(Circuits.Break);
    }

    [Fact]
    public async Task A_delegate_runs_outside_any_lock()
    {
        CircuitBreaker? breaker = null;
        CircuitState seen = default;
        breaker = Circuits.New(_time, o => o.BreakDurationFor = _ =>
        {
            // Another thread must be able to use the circuit meanwhile.
            seen = Task.Run(() => breaker!.State).WaitAsync(TimeSpan.FromSeconds(10)).GetAwaiter().GetResult();
            return TimeSpan.FromSeconds(1);
        });

        await Task.Run(() => breaker.Fail(4), TestContext.Current.CancellationToken);

        seen.Should().Be(CircuitState.Open);
        breaker.Capture().RemainingBreak.Should().Be(TimeSpan.FromSeconds(1));
    }

    private sealed class Nanoseconds : TimeProvider
    {
        public override long TimestampFrequency => 1_000_000_000;
    }
}
