using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.CircuitBreakers.Tests;

public sealed class ClosedCircuitTests
{
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public void A_new_circuit_is_closed_and_admits()
    {
        CircuitBreaker breaker = Circuits.New(_time);

        breaker.State.Should().Be(CircuitState.Closed);
        breaker.Rejects().Should().BeFalse();
    }

    [Fact]
    public void It_opens_when_the_failure_ratio_is_reached()
    {
        CircuitBreaker breaker = Circuits.New(_time);

        breaker.Succeed(3);
        breaker.Fail(2);
        breaker.State.Should().Be(CircuitState.Closed, "2 of 5 is below a half");
        breaker.Fail();

        breaker.State.Should().Be(CircuitState.Open, "3 of 6 is a half");
    }

    [Theory]
    [InlineData(55, 100, 0.55)]
    [InlineData(7, 100, 0.07)]
    [InlineData(7, 50, 0.14)]
    [InlineData(1, 3, 1.0 / 3)]
    public void A_ratio_that_is_reached_exactly_opens_it(int failures, int calls, double ratio)
    {
        CircuitBreaker breaker = Circuits.New(_time, o => (o.FailureRatio, o.MinimumThroughput) = (ratio, calls));

        breaker.Fail(failures);
        breaker.Succeed(calls - failures);

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void It_stays_closed_below_the_minimum_throughput()
    {
        CircuitBreaker breaker = Circuits.New(_time);

        breaker.Fail(3);

        breaker.State.Should().Be(CircuitState.Closed);
    }

    [Fact]
    public void A_success_that_reaches_the_minimum_throughput_opens_it_too()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        breaker.Fail(3);

        breaker.Succeed();

        breaker.State.Should().Be(CircuitState.Open, "the ratio is judged on successes as well");
    }

    [Fact]
    public void Failures_leave_the_window_bucket_by_bucket()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        breaker.Fail(3);

        _time.Advance(TimeSpan.FromSeconds(30));
        breaker.Succeed(4);

        breaker.State.Should().Be(CircuitState.Closed);
        breaker.Counts.Should().Be(new CallCounts(4, 0, 0));
    }

    [Fact]
    public void Failures_count_until_their_bucket_is_ten_buckets_old()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        breaker.Fail(3);

        _time.Advance(TimeSpan.FromSeconds(29.9));
        breaker.Counts.Should().Be(new CallCounts(0, 3, 0));
        breaker.Succeed();

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void A_long_idle_circuit_starts_with_an_empty_window()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        breaker.Fail(3);

        _time.Advance(TimeSpan.FromDays(400));
        breaker.Fail();

        breaker.State.Should().Be(CircuitState.Closed);
        breaker.Counts.Should().Be(new CallCounts(0, 1, 0));
    }

    [Fact]
    public void Consecutive_mode_opens_after_that_many_failures_in_a_row()
    {
        CircuitBreaker breaker = Circuits.New(_time, o => o.ConsecutiveFailures = 3);

        breaker.Fail(2);
        breaker.Succeed();
        breaker.Fail(2);
        breaker.State.Should().Be(CircuitState.Closed, "a success ended the row, and the ratio is not judged");
        breaker.Fail();

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void In_consecutive_mode_a_released_call_neither_counts_nor_ends_the_row()
    {
        CircuitBreaker breaker = Circuits.New(_time, o => o.ConsecutiveFailures = 2);

        breaker.Fail();
        breaker.Enter().Release();
        breaker.State.Should().Be(CircuitState.Closed);
        breaker.Fail();

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void Released_calls_are_neutral()
    {
        CircuitBreaker breaker = Circuits.New(_time);

        for (int i = 0; i < 100; i++)
        {
            breaker.Enter().Release();
        }

        breaker.Counts.Should().Be(default(CallCounts));
    }

    [Fact]
    public void A_result_from_before_the_last_opening_never_moves_the_state()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        CircuitPermit[] old = [.. Enumerable.Range(0, 20).Select(_ => breaker.Enter())];
        breaker.Fail(4);

        old[0].Success();
        breaker.State.Should().Be(CircuitState.Open, "a late success does not close it");
        _time.Advance(Circuits.Break);
        breaker.Enter().Success();
        breaker.State.Should().Be(CircuitState.Closed);
        foreach (CircuitPermit permit in old[1..])
        {
            permit.Failure();
        }

        breaker.State.Should().Be(CircuitState.Closed, "late failures do not open the next period");
        breaker.Counts.Should().Be(default(CallCounts));
    }

    [Fact]
    public void A_permit_completed_twice_never_makes_a_counter_negative()
    {
        CircuitBreaker breaker = Circuits.New(_time, o => o.SlowCallDuration = TimeSpan.FromSeconds(1));
        CircuitPermit permit = breaker.Enter();

        permit.Success();
        permit.Success();
        permit.Release();
        permit.Failure();

        breaker.Counts.Should().Be(new CallCounts(2, 1, 0));
        breaker.IsBusy.Should().BeFalse();
    }

    [Fact]
    public void A_default_permit_does_nothing()
    {
        CircuitPermit permit = default;

        Action act = () =>
        {
            permit.Success();
            permit.Failure();
            permit.Release();
        };

        act.Should().NotThrow();
    }

    [Fact]
    public void A_bucket_with_millions_of_calls_keeps_its_ratio()
    {
        CircuitBreaker breaker = Circuits.New(_time, o => o.FailureRatio = 0.9);

        for (int i = 0; i < 5_000_000; i++)
        {
            CircuitPermit permit = breaker.Enter();
            if (i % 4 == 0)
            {
                permit.Failure();
            }
            else
            {
                permit.Success();
            }
        }

        CallCounts counts = breaker.Counts;
        counts.Successes.Should().BeGreaterThan(400_000);
        ((double)counts.Failures / counts.Successes).Should().BeApproximately(1.0 / 3, 0.001);
    }

    [Fact]
    public void The_wall_clock_may_jump_in_either_direction()
    {
        var time = new JumpingClock();
        CircuitBreaker breaker = new(Circuits.Options(), time);
        breaker.Fail(4);

        time.Wall += TimeSpan.FromHours(5);
        breaker.State.Should().Be(CircuitState.Open);
        time.Wall -= TimeSpan.FromHours(48);
        time.Monotonic += Circuits.Break;

        breaker.State.Should().Be(CircuitState.HalfOpen);
    }

    private sealed class JumpingClock : TimeProvider
    {
        public DateTimeOffset Wall { get; set; } = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

        public TimeSpan Monotonic { get; set; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override DateTimeOffset GetUtcNow() => Wall;

        public override long GetTimestamp() => Monotonic.Ticks;
    }
}
