using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.TimeoutBudgets.Tests;

public sealed class TimeoutBudgetTests
{
    private readonly FakeTimeProvider _time = new();

    private TimeoutBudget Start(double seconds, CancellationToken token = default) => TimeoutBudget.Start(TimeSpan.FromSeconds(seconds), "", _time, token);

    [Fact]
    public void Without_a_scope_there_is_no_current_budget()
    {
        TimeoutBudget.Current.Should().BeNull();
        TimeoutBudget.TimeLeft().Should().BeNull();
    }

    [Fact]
    public void A_scope_tells_its_name_total_and_what_remains()
    {
        using var budget = TimeoutBudget.Start(TimeSpan.FromSeconds(10), "checkout", _time);

        _time.Advance(TimeSpan.FromSeconds(4));

        TimeoutBudget.Current.Should().BeSameAs(budget);
        budget.Name.Should().Be("checkout");
        budget.Total.Should().Be(TimeSpan.FromSeconds(10));
        budget.Remaining.Should().Be(TimeSpan.FromSeconds(6));
        TimeoutBudget.TimeLeft().Should().Be(TimeSpan.FromSeconds(6));
        budget.IsExpired.Should().BeFalse();
    }

    [Fact]
    public void The_token_fires_at_the_deadline_and_not_a_tick_before()
    {
        using TimeoutBudget budget = Start(10);

        _time.Advance(TimeSpan.FromSeconds(10) - TimeSpan.FromTicks(1));
        bool early = budget.Token.IsCancellationRequested || budget.IsExpired;
        TimeSpan last = budget.Remaining;
        _time.Advance(TimeSpan.FromTicks(1));

        early.Should().BeFalse();
        last.Should().Be(TimeSpan.FromTicks(1));
        budget.Token.IsCancellationRequested.Should().BeTrue();
        budget.IsExpired.Should().BeTrue();
        budget.Remaining.Should().Be(TimeSpan.Zero);
    }

    [Fact]
    public async Task A_budget_flows_through_await_and_into_started_work()
    {
        using TimeoutBudget budget = Start(10);

        await Task.Yield();
        TimeoutBudget? afterAwait = TimeoutBudget.Current;
        TimeoutBudget? elsewhere = await Task.Run(static () => TimeoutBudget.Current, TestContext.Current.CancellationToken);

        afterAwait.Should().BeSameAs(budget);
        elsewhere.Should().BeSameAs(budget);
    }

    [Theory]
    [InlineData(10, 3, 3)]
    [InlineData(3, 10, 3)]
    [InlineData(5, 5, 5)]
    public void A_nested_budget_is_the_minimum_of_both(double outer, double inner, double effective)
    {
        using TimeoutBudget outerBudget = Start(outer);
        using TimeoutBudget innerBudget = Start(inner);

        innerBudget.Remaining.Should().Be(TimeSpan.FromSeconds(effective));
        innerBudget.Total.Should().Be(TimeSpan.FromSeconds(effective));
        _time.Advance(TimeSpan.FromSeconds(effective));
        innerBudget.IsExpired.Should().BeTrue();
        innerBudget.Token.IsCancellationRequested.Should().BeTrue();
    }

    [Fact]
    public void A_nested_budget_does_not_grow_when_the_outer_one_is_disposed_first()
    {
        TimeoutBudget outer = Start(3);
        using TimeoutBudget inner = Start(10);

        outer.Dispose();
        _time.Advance(TimeSpan.FromSeconds(3));

        inner.Remaining.Should().Be(TimeSpan.Zero);
        inner.Token.IsCancellationRequested.Should().BeTrue("the outer deadline is still the inner one's");
    }

    [Fact]
    public void A_nested_budget_without_a_deadline_of_its_own_has_the_outer_token()
    {
        using TimeoutBudget outer = Start(3);
        using TimeoutBudget same = Start(10);
        using TimeoutBudget handedOn = Start(10, outer.Token);
        using TimeoutBudget infinite = TimeoutBudget.Start(Timeout.InfiniteTimeSpan, "", _time);

        same.Token.Should().Be(outer.Token);
        handedOn.Token.Should().Be(outer.Token);
        infinite.Token.Should().Be(outer.Token);
    }

    [Fact]
    public void A_nested_budget_that_is_cancelled_by_another_token_has_one_of_its_own()
    {
        using var caller = new CancellationTokenSource();
        using TimeoutBudget outer = Start(3);
        using TimeoutBudget inner = Start(10, caller.Token);

        caller.Cancel();

        inner.Token.IsCancellationRequested.Should().BeTrue();
        outer.Token.IsCancellationRequested.Should().BeFalse();
    }

    [Fact]
    public void The_token_given_at_the_start_fires_the_token_of_each_nested_scope()
    {
        using var caller = new CancellationTokenSource();
        using TimeoutBudget outer = Start(10, caller.Token);
        using TimeoutBudget inner = Start(3);

        caller.Cancel();

        outer.Token.IsCancellationRequested.Should().BeTrue();
        Eventually.BeTrue(() => inner.Token.IsCancellationRequested, "the outer token fires the inner one");
        inner.IsExpired.Should().BeFalse();
    }

    [Fact]
    public void A_token_that_is_cancelled_already_fires_at_once()
    {
        using TimeoutBudget budget = Start(10, new CancellationToken(canceled: true));

        budget.Token.IsCancellationRequested.Should().BeTrue();
        budget.IsExpired.Should().BeFalse();
    }

    [Fact]
    public void After_dispose_the_outer_scope_is_current_again()
    {
        using TimeoutBudget outer = Start(10);
        TimeoutBudget inner = Start(3);

        inner.Dispose();
        inner.Dispose();

        TimeoutBudget.Current.Should().BeSameAs(outer);
    }

    [Fact]
    public void After_dispose_the_deadline_fires_nothing()
    {
        using var caller = new CancellationTokenSource();
        TimeoutBudget alone = Start(3);
        CancellationToken token = alone.Token;
        alone.Dispose();
        TimeoutBudget linked = Start(3, caller.Token);
        CancellationToken linkedToken = linked.Token;
        linked.Dispose();

        _time.Advance(TimeSpan.FromDays(1));
        caller.Cancel();

        token.IsCancellationRequested.Should().BeFalse();
        linkedToken.IsCancellationRequested.Should().BeFalse();
        alone.Token.Should().Be(token, "a disposed scope still tells what it told");
        alone.IsExpired.Should().BeTrue();
    }

    [Fact]
    public async Task Background_work_falls_back_to_the_outer_live_scope_and_then_to_none()
    {
        TimeoutBudget outer = Start(10);
        TimeoutBudget inner = Start(3);
        var questions = new SemaphoreSlim(0);
        var answers = new SemaphoreSlim(0);
        TimeoutBudget? seen = null;
        Task background = Task.Run(async () =>
        {
            for (int i = 0; i < 3; i++)
            {
                await questions.WaitAsync();
                seen = TimeoutBudget.Current;
                answers.Release();
            }
        }, TestContext.Current.CancellationToken);
        async Task<TimeoutBudget?> Ask()
        {
            questions.Release();
            await answers.WaitAsync();
            return seen;
        }

        TimeoutBudget? first = await Ask();
        inner.Dispose();
        TimeoutBudget? second = await Ask();
        outer.Dispose();
        TimeoutBudget? third = await Ask();
        await background;

        first.Should().BeSameAs(inner);
        second.Should().BeSameAs(outer);
        third.Should().BeNull();
    }

    [Fact]
    public async Task Work_queued_behind_a_finished_request_does_not_inherit_its_spent_budget()
    {
        var gate = new TaskCompletionSource();
        Task<TimeSpan> background;
        using (Start(3))
        {
            background = Task.Run(async () =>
            {
                await gate.Task;
                using TimeoutBudget own = Start(30);
                return own.Remaining;
            }, TestContext.Current.CancellationToken);
        }

        _time.Advance(TimeSpan.FromSeconds(60));
        gate.SetResult();

        (await background).Should().Be(TimeSpan.FromSeconds(30));
    }

    [Fact]
    public void Scopes_may_be_disposed_out_of_order()
    {
        TimeoutBudget outer = Start(10);
        TimeoutBudget middle = Start(8);
        TimeoutBudget inner = Start(6);

        middle.Dispose();
        TimeoutBudget? afterMiddle = TimeoutBudget.Current;
        outer.Dispose();
        TimeoutBudget? afterOuter = TimeoutBudget.Current;
        inner.Dispose();

        afterMiddle.Should().BeSameAs(inner);
        afterOuter.Should().BeSameAs(inner);
        TimeoutBudget.Current.Should().BeNull();
    }

    [Fact]
    public void Suppression_hides_the_budget_until_it_is_disposed()
    {
        using TimeoutBudget outer = Start(3);
        TimeoutBudget? hidden;
        TimeSpan inside;
        using (TimeoutBudget.Suppress())
        {
            hidden = TimeoutBudget.Current;
            using TimeoutBudget own = Start(10);
            inside = own.Remaining;
        }

        hidden.Should().BeNull();
        inside.Should().Be(TimeSpan.FromSeconds(10), "a budget started inside does not inherit");
        TimeoutBudget.Current.Should().BeSameAs(outer);
    }

    [Fact]
    public async Task Work_started_while_suppressed_stays_free_of_the_budget()
    {
        using TimeoutBudget outer = Start(3);
        var gate = new TaskCompletionSource();
        Task<TimeoutBudget?> background;
        using (TimeoutBudget.Suppress())
        {
            background = Task.Run(async () =>
            {
                await gate.Task;
                return TimeoutBudget.Current;
            }, TestContext.Current.CancellationToken);
        }

        gate.SetResult();

        (await background).Should().BeNull();
    }

    [Fact]
    public async Task Work_started_while_suppressed_stays_free_of_the_budget_also_after_a_disposal_out_of_order()
    {
        using TimeoutBudget outer = Start(3);
        var gate = new TaskCompletionSource();
        IDisposable first = TimeoutBudget.Suppress();
        Task<TimeoutBudget?> background = Task.Run(async () =>
        {
            await gate.Task;
            return TimeoutBudget.Current;
        }, TestContext.Current.CancellationToken);
        IDisposable second = TimeoutBudget.Suppress();

        first.Dispose();
        gate.SetResult();
        TimeoutBudget? seen = await background;
        second.Dispose();

        seen.Should().BeNull();
        TimeoutBudget.Current.Should().BeSameAs(outer);
    }

    [Fact]
    public void Suppressions_nest_and_may_be_disposed_out_of_order()
    {
        using TimeoutBudget outer = Start(3);
        IDisposable first = TimeoutBudget.Suppress();
        IDisposable second = TimeoutBudget.Suppress();

        first.Dispose();
        first.Dispose();
        TimeoutBudget? between = TimeoutBudget.Current;
        second.Dispose();

        between.Should().BeNull();
        TimeoutBudget.Current.Should().BeSameAs(outer);
    }

    [Fact]
    public void A_total_of_zero_is_expired_from_the_start()
    {
        using TimeoutBudget budget = Start(0);

        budget.IsExpired.Should().BeTrue();
        budget.Token.IsCancellationRequested.Should().BeTrue();
        budget.Remaining.Should().Be(TimeSpan.Zero);
    }

    [Theory]
    [InlineData(-2)]
    [InlineData(long.MinValue)]
    public void A_negative_total_is_an_argument_error(long ticks)
    {
        Action start = () => TimeoutBudget.Start(TimeSpan.FromTicks(ticks), "", _time);

        start.Should().Throw<ArgumentOutOfRangeException>().WithParameterName("total");
        TimeoutBudget.Current.Should().BeNull();
    }

    [Fact]
    public void An_infinite_total_has_no_deadline()
    {
        using var budget = TimeoutBudget.Start(Timeout.InfiniteTimeSpan, "", _time);

        _time.Advance(TimeSpan.FromDays(100_000));

        TimeoutBudget.Current.Should().BeSameAs(budget);
        TimeoutBudget.TimeLeft().Should().BeNull();
        budget.Total.Should().Be(TimeSpan.MaxValue);
        budget.Remaining.Should().Be(TimeSpan.MaxValue);
        budget.IsExpired.Should().BeFalse();
        budget.Token.CanBeCanceled.Should().BeTrue("the token is the same kind of token in every case");
        budget.Token.IsCancellationRequested.Should().BeFalse();
        budget.Slice(0.5).Should().Be(TimeSpan.MaxValue);
        budget.Slice(3).Should().Be(TimeSpan.MaxValue);
    }

    [Fact]
    public void More_than_49_days_works_to_the_tick()
    {
        using TimeoutBudget budget = TimeoutBudget.Start(TimeSpan.FromDays(400), "", _time);

        _time.Advance(TimeSpan.FromDays(400) - TimeSpan.FromTicks(1));
        bool early = budget.Token.IsCancellationRequested;
        _time.Advance(TimeSpan.FromTicks(1));

        early.Should().BeFalse();
        budget.Token.IsCancellationRequested.Should().BeTrue();
    }

    [Fact]
    public void The_longest_time_span_does_not_overflow()
    {
        _time.Advance(TimeSpan.FromDays(10_000));
        using TimeoutBudget budget = TimeoutBudget.Start(TimeSpan.MaxValue, "", _time);

        _time.Advance(TimeSpan.FromDays(100_000));

        budget.IsExpired.Should().BeFalse();
        budget.Token.IsCancellationRequested.Should().BeFalse();
        budget.Remaining.Should().BeGreaterThan(TimeSpan.FromDays(1_000_000));
    }

    [Fact]
    public void A_slice_is_a_part_of_what_is_left()
    {
        using TimeoutBudget budget = Start(10);
        _time.Advance(TimeSpan.FromSeconds(4));

        budget.Slice(0.5).Should().Be(TimeSpan.FromSeconds(3));
        budget.Slice(1.0).Should().Be(TimeSpan.FromSeconds(6));
        budget.Slice(3).Should().Be(TimeSpan.FromSeconds(2));
        budget.Slice(1).Should().Be(TimeSpan.FromSeconds(6));
    }

    [Fact]
    public void A_slice_is_at_least_its_floor_but_never_more_than_what_is_left()
    {
        using TimeoutBudget budget = Start(6);

        budget.Slice(0.1, TimeSpan.FromSeconds(2)).Should().Be(TimeSpan.FromSeconds(2));
        budget.Slice(6, TimeSpan.FromSeconds(2)).Should().Be(TimeSpan.FromSeconds(2));
        budget.Slice(0.1, TimeSpan.FromSeconds(60)).Should().Be(TimeSpan.FromSeconds(6));
        budget.Slice(6, TimeSpan.MaxValue).Should().Be(TimeSpan.FromSeconds(6));
        _time.Advance(TimeSpan.FromSeconds(7));
        budget.Slice(0.5, TimeSpan.FromSeconds(1)).Should().Be(TimeSpan.Zero);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-0.1)]
    [InlineData(1.1)]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    public void A_fraction_out_of_range_is_an_argument_error(double fraction)
    {
        using TimeoutBudget budget = Start(6);

        budget.Invoking(b => b.Slice(fraction)).Should().Throw<ArgumentOutOfRangeException>();
    }

    [Fact]
    public void A_slice_of_no_attempts_or_with_a_negative_floor_is_an_argument_error()
    {
        using TimeoutBudget budget = Start(6);

        budget.Invoking(b => b.Slice(0)).Should().Throw<ArgumentOutOfRangeException>();
        budget.Invoking(b => b.Slice(2, TimeSpan.FromTicks(-1))).Should().Throw<ArgumentOutOfRangeException>();
    }

    [Fact]
    public void A_scope_on_another_clock_takes_over_what_is_left()
    {
        var other = new FakeTimeProvider();
        other.Advance(TimeSpan.FromDays(1_000));
        using TimeoutBudget outer = Start(3);
        _time.Advance(TimeSpan.FromSeconds(1));
        using TimeoutBudget inner = TimeoutBudget.Start(TimeSpan.FromSeconds(10), "", other);

        TimeSpan left = inner.Remaining;
        other.Advance(TimeSpan.FromSeconds(2));

        left.Should().Be(TimeSpan.FromSeconds(2));
        inner.Token.IsCancellationRequested.Should().BeTrue();
        outer.Token.IsCancellationRequested.Should().BeFalse();
    }

    [Theory]
    [InlineData(1_000)]
    [InlineData(3)]
    [InlineData(32_768)]
    [InlineData(1_000_000_000)]
    public void A_clock_of_any_frequency_never_lets_a_token_fire_early(long frequency)
    {
        var clock = new ForeignClock(frequency);
        using TimeoutBudget budget = TimeoutBudget.Start(TimeSpan.FromSeconds(1.2345), "", clock);

        clock.Timestamp += (long)(1.2345 * frequency) - 1;
        bool early = budget.IsExpired;
        TimeSpan last = budget.Remaining;
        clock.Timestamp += 2;

        early.Should().BeFalse();
        last.Should().BeGreaterThan(TimeSpan.Zero);
        budget.IsExpired.Should().BeTrue();
    }

    [Theory]
    [InlineData(1_000)]
    [InlineData(10_000_000)]
    [InlineData(1_000_000_000)]
    public void The_longest_time_span_does_not_overflow_on_a_clock_of_any_frequency(long frequency)
    {
        var clock = new ForeignClock(frequency) { Timestamp = long.MaxValue / 2 };
        using TimeoutBudget budget = TimeoutBudget.Start(TimeSpan.MaxValue, "", clock);

        budget.IsExpired.Should().BeFalse();
        budget.Remaining.Should().BeGreaterThan(TimeSpan.FromDays(10_000));
    }

    private sealed class ForeignClock(long frequency) : TimeProvider
    {
        public long Timestamp { get; set; } = -5;

        public override long TimestampFrequency => frequency;

        public override long GetTimestamp() => Timestamp;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) => new FakeTimeProvider().CreateTimer(callback, state, dueTime, period);
    }
}
