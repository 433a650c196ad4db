using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.CircuitBreakers.Tests;

public sealed class SlowCallTests
{
    private static readonly TimeSpan Slow = TimeSpan.FromSeconds(8);
    private static readonly TimeSpan Cohort = TimeSpan.FromSeconds(1);

    private readonly FakeTimeProvider _time = new();

    [Fact]
    public void Slow_calls_are_off_by_default()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        CircuitPermit[] permits = [.. Enumerable.Range(0, 100).Select(_ => breaker.Enter())];

        _time.Advance(TimeSpan.FromHours(1));
        Array.ForEach(permits, permit => permit.Success());

        breaker.State.Should().Be(CircuitState.Closed);
    }

    [Fact]
    public void Completed_slow_calls_open_the_circuit_at_their_ratio()
    {
        CircuitBreaker breaker = WithSlowCalls();
        breaker.Succeed(2);
        CircuitPermit first = breaker.Enter();
        CircuitPermit second = breaker.Enter();

        _time.Advance(Slow + TimeSpan.FromTicks(1));
        first.Success();
        breaker.State.Should().Be(CircuitState.Closed, "1 slow of 3 calls");
        second.Success();

        breaker.State.Should().Be(CircuitState.Open, "2 slow of 4 calls");
    }

    [Fact]
    public void A_call_of_exactly_the_duration_is_not_slow()
    {
        CircuitBreaker breaker = WithSlowCalls();
        CircuitPermit[] permits = [.. Enumerable.Range(0, 8).Select(_ => breaker.Enter())];

        _time.Advance(Slow);
        Array.ForEach(permits, permit => permit.Success());

        breaker.Counts.Should().Be(new CallCounts(8, 0, 0));
    }

    [Fact]
    public void A_thousand_hung_calls_open_the_circuit_although_nothing_has_completed()
    {
        CircuitBreaker breaker = WithSlowCalls();
        for (int i = 0; i < 1000; i++)
        {
            breaker.Enter();
        }

        _time.Advance(Slow + Cohort - TimeSpan.FromTicks(1));
        breaker.State.Should().Be(CircuitState.Closed);
        _time.Advance(TimeSpan.FromTicks(1));

        breaker.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void Hung_calls_open_the_circuit_on_the_next_entry()
    {
        CircuitBreaker breaker = WithSlowCalls();
        for (int i = 0; i < 10; i++)
        {
            breaker.Enter();
        }

        _time.Advance(Slow + Cohort);

        breaker.Rejects().Should().BeTrue();
    }

    [Fact]
    public void Hung_calls_open_the_circuit_on_the_next_report()
    {
        CircuitBreaker breaker = WithSlowCalls();
        var states = new List<CircuitState>();
        breaker.StateChanged += (_, change) => states.Add(change.Current);
        for (int i = 0; i < 10; i++)
        {
            breaker.Enter();
        }

        CircuitPermit reported = breaker.Enter();
        _time.Advance(Slow + Cohort);
        reported.Release();

        states.Should().Equal(CircuitState.Open);
    }

    [Fact]
    public void Calls_in_flight_age_in_cohorts_by_when_they_started()
    {
        CircuitBreaker breaker = WithSlowCalls();
        for (int i = 0; i < 3; i++)
        {
            breaker.Enter();
            _time.Advance(2 * Cohort);
        }

        breaker.Enter();
        _time.Advance(Slow + Cohort - TimeSpan.FromSeconds(6));
        breaker.State.Should().Be(CircuitState.Closed, "one of four calls is overdue, the minimum is four");
        _time.Advance(2 * Cohort);
        breaker.State.Should().Be(CircuitState.Closed, "two are");
        _time.Advance(4 * Cohort);

        breaker.State.Should().Be(CircuitState.Open, "all four are");
    }

    [Fact]
    public void Calls_that_end_after_they_were_overdue_are_counted_once()
    {
        CircuitBreaker breaker = WithSlowCalls(o => o.SlowCallRatio = 1);
        CircuitPermit[] hung = [.. Enumerable.Range(0, 3).Select(_ => breaker.Enter())];
        _time.Advance(Slow + Cohort);
        breaker.Succeed(2);

        Array.ForEach(hung, permit => permit.Success());

        breaker.State.Should().Be(CircuitState.Closed);
        breaker.Counts.Should().Be(new CallCounts(5, 0, 3));
        breaker.IsBusy.Should().BeFalse();
    }

    [Fact]
    public void Cancelled_slow_calls_leave_no_trace()
    {
        CircuitBreaker breaker = WithSlowCalls();
        CircuitPermit[] hung = [.. Enumerable.Range(0, 3).Select(_ => breaker.Enter())];
        _time.Advance(100 * Slow);
        Array.ForEach(hung, permit => permit.Release());

        breaker.Succeed(4);

        breaker.State.Should().Be(CircuitState.Closed);
        breaker.IsBusy.Should().BeFalse();
    }

    [Fact]
    public void Calls_hung_since_before_the_opening_do_not_open_the_next_period()
    {
        CircuitBreaker breaker = WithSlowCalls();
        CircuitPermit[] hung = [.. Enumerable.Range(0, 50).Select(_ => breaker.Enter())];
        _time.Advance(Slow + Cohort);
        breaker.State.Should().Be(CircuitState.Open);
        _time.Advance(Circuits.Break);
        breaker.Enter().Success();

        _time.Advance(10 * Slow);
        breaker.Succeed(5);
        Array.ForEach(hung, permit => permit.Failure());

        breaker.State.Should().Be(CircuitState.Closed);
        breaker.Counts.Should().Be(new CallCounts(5, 0, 0));
    }

    [Fact]
    public void A_reload_can_turn_slow_calls_on_and_off()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        CircuitPermit before = breaker.Enter();
        breaker.Update(Circuits.Options(o => o.SlowCallDuration = Slow));
        CircuitPermit[] tracked = [.. Enumerable.Range(0, 4).Select(_ => breaker.Enter())];

        breaker.Update(Circuits.Options());
        _time.Advance(10 * Slow);
        breaker.State.Should().Be(CircuitState.Closed, "slow calls are off");
        breaker.Update(Circuits.Options(o => o.SlowCallDuration = Slow));
        before.Success();

        breaker.State.Should().Be(CircuitState.Open, "the calls are still in flight, and slow calls are on");
        tracked.Should().HaveCount(4);
    }

    [Fact]
    public void The_last_report_that_hung_calls_make_together_opens_the_circuit()
    {
        CircuitBreaker breaker = WithSlowCalls();
        CircuitPermit[] hung = [.. Enumerable.Range(0, 4).Select(_ => breaker.Enter())];
        _time.Advance(TimeSpan.FromMinutes(1));

        hung[0].Release();

        breaker.State.Should().Be(CircuitState.Open, "at that moment four of four calls were slow");
    }

    [Fact]
    public void A_reload_of_the_duration_judges_calls_in_flight_by_the_new_one()
    {
        CircuitBreaker longer = WithSlowCalls(o => o.SlowCallDuration = TimeSpan.FromMilliseconds(80));
        CircuitBreaker shorter = WithSlowCalls(o => o.SlowCallDuration = TimeSpan.FromDays(1));
        CircuitPermit[] inFlight = [.. Enumerable.Range(0, 100).Select(_ => longer.Enter())];
        _time.Advance(TimeSpan.FromMilliseconds(75));

        longer.Update(Circuits.Options(o => o.SlowCallDuration = Slow));
        shorter.Update(Circuits.Options(o => o.SlowCallDuration = Slow));
        for (int i = 0; i < 4; i++)
        {
            shorter.Enter();
        }

        _time.Advance(Slow - Cohort);
        longer.State.Should().Be(CircuitState.Closed);
        shorter.State.Should().Be(CircuitState.Closed);
        Array.ForEach(inFlight[..98], permit => permit.Success());
        _time.Advance(2 * Cohort);
        longer.State.Should().Be(CircuitState.Closed, "98 of the hundred have left");
        shorter.State.Should().Be(CircuitState.Open);
        Array.ForEach(inFlight[98..], permit => permit.Success());
        longer.IsBusy.Should().BeFalse();
    }

    [Fact]
    public void Overdue_calls_keep_a_circuit_busy()
    {
        CircuitBreaker breaker = WithSlowCalls(o => o.MinimumThroughput = 10);
        CircuitPermit hung = breaker.Enter();

        _time.Advance(10 * Slow);
        _ = breaker.State;

        breaker.IsBusy.Should().BeTrue();
        hung.Release();
        breaker.IsBusy.Should().BeFalse();
    }

    [Fact]
    public void Numbers_of_cohorts_wrap_without_losing_calls()
    {
        var settings = new CircuitSettings(new CircuitBreakerOptions { SlowCallDuration = TimeSpan.FromMilliseconds(1) }, new Clock(_time));
        var slowCalls = new SlowCalls(0, settings);
        long now = 0;

        for (int i = 0; i < 2000; i++)
        {
            now += settings.CohortUnits * 1_000_003;
            slowCalls.Advance(now, settings);
            int cohort = slowCalls.Enter();
            slowCalls.Any().Should().BeTrue();
            now += settings.CohortUnits * (i % 12);
            slowCalls.Advance(now, settings);
            slowCalls.Overdue.Should().Be(i % 12 >= 9 ? 1 : 0);
            if (!slowCalls.TryLeave(cohort))
            {
                slowCalls.LeaveOverdue();
            }

            slowCalls.Any().Should().BeFalse();
        }
    }

    private CircuitBreaker WithSlowCalls(Action<CircuitBreakerOptions>? configure = null) => Circuits.New(_time, o =>
    {
        o.SlowCallDuration = Slow;
        configure?.Invoke(o);
    });
}
