namespace Backend.Toolkit.TimeoutBudgets.Tests;

public sealed class DeadlineTableTests
{
    private readonly CountingTimeProvider _time = new();

    private TimeoutBudget Start(double seconds, CancellationToken token = default) => TimeoutBudget.Start(TimeSpan.FromSeconds(seconds), "", _time, token);

    [Fact]
    public void A_thousand_scopes_share_one_timer_that_is_set_once()
    {
        using IDisposable alone = TimeoutBudget.Suppress();
        List<TimeoutBudget> scopes = [];
        for (int i = 0; i < 1_000; i++)
        {
            scopes.Add(Start(10 + i));
            TimeoutBudget.Suppress();
        }

        int armings = _time.Armings;
        _time.Fake.Advance(TimeSpan.FromSeconds(10 + 499));

        _time.Timers.Should().Be(1);
        armings.Should().Be(1);
        scopes.Select(scope => scope.Token.IsCancellationRequested).Should().Equal(Enumerable.Range(0, 1_000).Select(i => i < 500));
    }

    [Fact]
    public void The_timer_moves_only_for_an_earlier_deadline()
    {
        using (Start(10))
        {
        }

        using (Start(9))
        {
        }

        using (Start(9))
        {
        }

        using (Start(60))
        {
        }

        _time.Armings.Should().Be(2);
    }

    [Fact]
    public void Without_deadlines_nothing_is_armed()
    {
        using (Start(10))
        {
        }

        _time.Fake.Advance(TimeSpan.FromDays(30));
        int armings = _time.Armings;
        using (TimeoutBudget.Start(Timeout.InfiniteTimeSpan, "", _time))
        {
            _time.Fake.Advance(TimeSpan.FromDays(30));
        }

        armings.Should().Be(1, "the timer came once for the deadline that was taken out, and then stood still");
        _time.Armings.Should().Be(1);
    }

    [Fact]
    public void A_deadline_that_an_outer_budget_ends_sooner_needs_no_timer()
    {
        using var caller = new CancellationTokenSource();
        using var infinite = TimeoutBudget.Start(Timeout.InfiniteTimeSpan, "", _time);
        int before = _time.Armings + _time.Timers;
        using TimeoutBudget outer = Start(5);
        int withOuter = _time.Armings;
        _time.Fake.Advance(TimeSpan.FromSeconds(1));

        using TimeoutBudget shared = Start(30);
        BudgetScope sharing = BudgetScope.Current!;
        using TimeoutBudget linked = Start(30, caller.Token);

        before.Should().Be(0);
        withOuter.Should().Be(1);
        _time.Armings.Should().Be(1);
        sharing.IsInTable.Should().BeFalse();
        _time.Fake.Advance(TimeSpan.FromSeconds(4));
        shared.Token.IsCancellationRequested.Should().BeTrue();
        Eventually.BeTrue(() => linked.Token.IsCancellationRequested, "it is due as well");
    }

    [Fact]
    public void The_timer_goes_on_to_the_next_deadline()
    {
        using TimeoutBudget later = Start(20);
        using TimeoutBudget sooner = Start(5);

        _time.Fake.Advance(TimeSpan.FromSeconds(5));
        (bool sooner, bool later) first = (sooner.Token.IsCancellationRequested, later.Token.IsCancellationRequested);
        _time.Fake.Advance(TimeSpan.FromSeconds(15));

        first.Should().Be((true, false));
        later.Token.IsCancellationRequested.Should().BeTrue();
    }

    [Fact]
    public void A_timer_that_comes_early_fires_nothing_and_is_set_again()
    {
        var time = new CountingTimeProvider { Early = TimeSpan.FromMilliseconds(0.7) };
        using var budget = TimeoutBudget.Start(TimeSpan.FromMilliseconds(20.3), "", time);

        time.Fake.Advance(TimeSpan.FromMilliseconds(19.6));
        bool early = budget.Token.IsCancellationRequested;
        int armings = time.Armings;
        time.Fake.Advance(TimeSpan.FromMilliseconds(1));

        early.Should().BeFalse();
        armings.Should().Be(2);
        budget.Token.IsCancellationRequested.Should().BeTrue();
        time.Armings.Should().BeLessThan(10, "it does not spin until the time is reached");
    }

    [Fact]
    public void A_callback_that_throws_harms_no_other_scope_and_is_counted()
    {
        string name = "throwing-" + Guid.NewGuid();
        using var metrics = new Measurements(name);
        using var first = TimeoutBudget.Start(TimeSpan.FromSeconds(5), name, _time);
        using IDisposable apart = TimeoutBudget.Suppress();
        using var second = TimeoutBudget.Start(TimeSpan.FromSeconds(5), name, _time);
        using CancellationTokenRegistration throwing = first.Token.Register(static () => throw new InvalidOperationException("callback"));
        using CancellationTokenRegistration throwingToo = second.Token.Register(static () => throw new InvalidOperationException("callback"));
        using IDisposable further = TimeoutBudget.Suppress();
        using TimeoutBudget third = Start(6);

        _time.Fake.Advance(TimeSpan.FromSeconds(5));
        _time.Fake.Advance(TimeSpan.FromSeconds(1));

        first.Token.IsCancellationRequested.Should().BeTrue();
        second.Token.IsCancellationRequested.Should().BeTrue();
        third.Token.IsCancellationRequested.Should().BeTrue();
        Eventually.BeTrue(() => metrics.Sum("backend.toolkit.timeout_budget.callback_failures") == 2, "each failure is counted");
    }

    [Fact]
    public async Task A_callback_that_blocks_holds_up_no_other_scope()
    {
        using var release = new ManualResetEventSlim();
        var ran = new TaskCompletionSource();
        using TimeoutBudget first = Start(5);
        await using CancellationTokenRegistration blocking = first.Token.Register(release.Wait);
        using IDisposable apart = TimeoutBudget.Suppress();
        using TimeoutBudget second = Start(5);
        await using CancellationTokenRegistration working = second.Token.Register(ran.SetResult);

        _time.Fake.Advance(TimeSpan.FromSeconds(5));

        await ran.Task.Soon();
        second.Token.IsCancellationRequested.Should().BeTrue();
        release.Set();
    }

    [Fact]
    public async Task The_timer_and_the_callbacks_do_not_carry_the_context_of_whoever_came_first()
    {
        var local = new AsyncLocal<string?> { Value = "of the one who armed" };
        var seen = new TaskCompletionSource<string?>();
        using TimeoutBudget budget = Start(5);
        await using CancellationTokenRegistration registration = budget.Token.UnsafeRegister(_ => seen.SetResult(local.Value), null);

        _time.Fake.Advance(TimeSpan.FromSeconds(5));

        (await seen.Task.Soon()).Should().BeNull();
        _time.TimerWasCreatedWithoutContext.Should().BeTrue();
        ExecutionContext.IsFlowSuppressed().Should().BeFalse();
    }

    [Fact]
    public void Thousands_of_scopes_with_mixed_deadlines_fire_each_in_its_turn()
    {
        var random = new Random(7);
        List<(TimeoutBudget Scope, double Seconds)> scopes = [];
        for (int i = 0; i < 3_000; i++)
        {
            double seconds = random.Next(4) switch { 0 => random.NextDouble(), 1 => random.Next(1, 60), 2 => random.Next(1, 5_000), _ => random.Next(1, 90 * 86_400) };
            TimeoutBudget.Suppress();
            scopes.Add((Start(seconds), seconds));
        }

        double now = 0;
        foreach (double step in (double[])[0.3, 0.3, 5, 20, 3_000, 86_400, 50 * 86_400.0, 30 * 86_400.0])
        {
            now += step;
            _time.Fake.Advance(TimeSpan.FromSeconds(step));
            scopes.Where(s => Math.Abs(s.Seconds - now) > 1e-5 && s.Scope.Token.IsCancellationRequested != s.Seconds < now).Should().BeEmpty();
        }
    }
}
