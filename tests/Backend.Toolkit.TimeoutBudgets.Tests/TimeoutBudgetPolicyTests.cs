using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.TimeoutBudgets.Tests;

public sealed class TimeoutBudgetPolicyTests
{
    private readonly FakeTimeProvider _time = new();

    private TimeoutBudgetPolicy Policy(double seconds, string name = "checkout") =>
        new(new TimeoutBudgetOptions { Name = name, Total = TimeSpan.FromSeconds(seconds) }, _time);

    private Task Hang(CancellationToken token) => Task.Delay(Timeout.InfiniteTimeSpan, _time, token);

    [Fact]
    public async Task A_result_comes_out_and_the_action_sees_its_budget()
    {
        TimeoutBudgetPolicy policy = Policy(10);
        TimeoutBudget? seen = null;
        bool sameToken = false;

        int result = await policy.ExecuteAsync(
            (state, token) =>
            {
                seen = TimeoutBudget.Current;
                sameToken = seen!.Token == token;
                return new ValueTask<int>(state + 1);
            },
            41, TestContext.Current.CancellationToken);

        result.Should().Be(42);
        seen!.Name.Should().Be("checkout");
        seen.Total.Should().Be(TimeSpan.FromSeconds(10));
        sameToken.Should().BeTrue();
        TimeoutBudget.Current.Should().BeNull();
    }

    [Fact]
    public async Task Expiry_throws_an_exception_that_tells_total_elapsed_and_layer()
    {
        Task execution = Policy(10).ExecuteAsync(token => new ValueTask(Hang(token)), CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(12));
        TimeoutBudgetExceededException thrown = (await execution.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>()).Which;

        thrown.Should().BeAssignableTo<TimeoutException>();
        thrown.Name.Should().Be("checkout");
        thrown.Total.Should().Be(TimeSpan.FromSeconds(10));
        thrown.Elapsed.Should().Be(TimeSpan.FromSeconds(12));
        thrown.Message.Should().Be("The timeout budget 'checkout' of 00:00:10 is exceeded after 00:00:12.");
        thrown.InnerException.Should().BeAssignableTo<OperationCanceledException>();
    }

    [Theory]
    [InlineData(3, 10, "inner")]
    [InlineData(10, 3, "outer")]
    [InlineData(5, 5, "outer")]
    public async Task The_layer_whose_deadline_it_was_throws_and_the_inner_one_passes_cancellation_on(double inner, double outer, string layer)
    {
        TimeoutBudgetPolicy innerPolicy = Policy(inner, "inner");
        Exception? fromInner = null;
        Task execution = Policy(outer, "outer").ExecuteAsync(async token =>
        {
            try
            {
                await innerPolicy.ExecuteAsync(Hang, token);
            }
            catch (Exception exception)
            {
                fromInner = exception;
                throw;
            }
        }, CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(Math.Min(inner, outer)));
        TimeoutBudgetExceededException thrown = (await execution.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>()).Which;

        thrown.Name.Should().Be(layer);
        if (layer == "outer")
        {
            fromInner.Should().BeAssignableTo<OperationCanceledException>();
        }
        else
        {
            fromInner.Should().BeSameAs(thrown, "the outer layer passes it on untouched");
        }
    }

    [Fact]
    public async Task An_inner_expiry_that_surfaces_after_the_outer_deadline_stays_the_inner_ones()
    {
        TimeoutBudgetPolicy inner = Policy(3, "inner");
        var reported = new TaskCompletionSource();
        var hold = new TaskCompletionSource();
        Task execution = Policy(10, "outer").ExecuteAsync(async token =>
        {
            try
            {
                await inner.ExecuteAsync(Hang, token);
            }
            catch (TimeoutBudgetExceededException exception)
            {
                reported.SetResult();
                await hold.Task;
                throw new InvalidOperationException("wrapped", exception);
            }
        }, CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(3));
        await reported.Task.Soon();
        _time.Advance(TimeSpan.FromSeconds(30));
        hold.SetResult();

        (await execution.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<InvalidOperationException>())
            .WithInnerExceptionExactly<TimeoutBudgetExceededException>().Which.Name.Should().Be("inner");
    }

    [Fact]
    public async Task An_outer_scope_that_was_started_by_hand_cancels_the_policy_inside_it()
    {
        using var outer = TimeoutBudget.Start(TimeSpan.FromSeconds(3), "outer", _time);
        Task execution = Policy(10).ExecuteAsync(Hang, CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(3));

        await execution.Awaiting(e => e.Soon()).Should().ThrowAsync<OperationCanceledException>();
        outer.IsExpired.Should().BeTrue();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_callers_cancellation_is_never_reported_as_a_timeout(bool abandon)
    {
        using var caller = new CancellationTokenSource();
        var policy = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Total = TimeSpan.FromSeconds(10), AbandonOnExpiry = abandon }, _time);
        Task execution = policy.ExecuteAsync(Hang, caller.Token).AsTask();

        caller.Cancel();

        (await execution.Awaiting(e => e.Soon()).Should().ThrowAsync<OperationCanceledException>())
            .Which.CancellationToken.Should().Be(caller.Token, "callers look at the token to tell their own cancellation");
        execution.IsCanceled.Should().BeTrue();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task When_both_have_happened_by_the_time_the_action_ends_the_callers_wins(bool callerFirst)
    {
        using var caller = new CancellationTokenSource();
        var hold = new TaskCompletionSource();
        Task execution = Policy(10).ExecuteAsync(async token =>
        {
            await hold.Task;
            token.ThrowIfCancellationRequested();
        }, caller.Token).AsTask();

        if (callerFirst)
        {
            caller.Cancel();
        }

        _time.Advance(TimeSpan.FromSeconds(20));
        if (!callerFirst)
        {
            caller.Cancel();
        }

        hold.SetResult();

        (await execution.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(caller.Token);
    }

    [Fact]
    public async Task A_cancellation_before_the_deadline_that_is_nobodys_passes_untouched()
    {
        var own = new OperationCanceledException("the action's own");

        Func<Task> execution = () => Policy(10).ExecuteAsync(ValueTask<int> (_) => throw own, CancellationToken.None).AsTask();

        (await execution.Should().ThrowExactlyAsync<OperationCanceledException>()).Which.Should().BeSameAs(own);
    }

    [Fact]
    public async Task A_wrapped_cancellation_after_the_deadline_is_the_timeout()
    {
        Task execution = Policy(10).ExecuteAsync(async token =>
        {
            try
            {
                await Hang(token);
            }
            catch (OperationCanceledException exception)
            {
                throw new HttpRequestException("the connection broke", new IOException("read", exception));
            }
        }, CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(10));

        (await execution.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>())
            .WithInnerExceptionExactly<HttpRequestException>();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(20)]
    public async Task Another_exception_passes_untouched_before_and_after_the_deadline(double seconds)
    {
        var hold = new TaskCompletionSource();
        var failure = new InvalidOperationException("as it was");
        Task execution = Policy(10).ExecuteAsync(async _ =>
        {
            await hold.Task;
            throw failure;
        }, CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(seconds));
        hold.SetResult();

        (await execution.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<InvalidOperationException>()).Which.Should().BeSameAs(failure);
    }

    [Fact]
    public async Task A_late_result_is_returned_by_default()
    {
        var hold = new TaskCompletionSource<int>();
        Task<int> execution = Policy(10).ExecuteAsync(_ => hold.Task, CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(20));
        bool waited = !execution.IsCompleted;
        hold.SetResult(42);

        waited.Should().BeTrue();
        (await execution.Soon()).Should().Be(42);
    }

    [Fact]
    public async Task The_cancellation_of_an_outer_budget_is_never_reported_as_a_timeout_also_when_its_token_was_not_handed_on()
    {
        using var caller = new CancellationTokenSource();
        using var outer = TimeoutBudget.Start(TimeSpan.FromSeconds(30), "outer", _time, caller.Token);
        var hold = new TaskCompletionSource();
        Task execution = Policy(10).ExecuteAsync(async token =>
        {
            await hold.Task;
            token.ThrowIfCancellationRequested();
        }, CancellationToken.None).AsTask();

        caller.Cancel();
        _time.Advance(TimeSpan.FromSeconds(20));
        hold.SetResult();

        await execution.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<OperationCanceledException>();
    }

    [Fact]
    public async Task An_outer_deadline_whose_timer_is_late_is_still_the_outer_ones()
    {
        var time = new CountingTimeProvider { Stalled = true };
        var outer = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Name = "outer", Total = TimeSpan.FromSeconds(3) }, time);
        var inner = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Name = "inner", Total = TimeSpan.FromSeconds(10) }, time);
        bool fired = true;
        Func<Task> execution = () => outer.ExecuteAsync(
            token => inner.ExecuteAsync(
                ValueTask (innerToken) =>
                {
                    time.Fake.Advance(TimeSpan.FromSeconds(20));
                    fired = innerToken.IsCancellationRequested;
                    throw new OperationCanceledException("a timeout of the transport");
                }, token), CancellationToken.None).AsTask();

        TimeoutBudgetExceededException thrown = (await execution.Should().ThrowExactlyAsync<TimeoutBudgetExceededException>()).Which;

        fired.Should().BeFalse("the timer has not come yet");
        thrown.Name.Should().Be("outer");
    }

    [Fact]
    public async Task A_total_of_zero_does_not_start_the_action()
    {
        bool started = false;
        ValueTask execution = Policy(0).ExecuteAsync(_ =>
        {
            started = true;
            return ValueTask.CompletedTask;
        }, CancellationToken.None);

        await execution.AsTask().Awaiting(e => e).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>();
        started.Should().BeFalse();
    }

    [Fact]
    public async Task An_ambient_budget_that_is_spent_does_not_start_the_action_and_comes_out_as_cancellation()
    {
        bool started = false;
        using var outer = TimeoutBudget.Start(TimeSpan.FromSeconds(3), "", _time);
        _time.Advance(TimeSpan.FromSeconds(3));

        Task execution = Policy(10).ExecuteAsync(_ =>
        {
            started = true;
            return ValueTask.CompletedTask;
        }, CancellationToken.None).AsTask();

        (await execution.Awaiting(e => e).Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(outer.Token);
        started.Should().BeFalse();
    }

    [Fact]
    public async Task A_caller_that_has_cancelled_already_starts_nothing_and_gets_its_cancellation_also_with_a_total_of_zero()
    {
        bool started = false;
        var cancelled = new CancellationToken(canceled: true);
        Task execution = Policy(0).ExecuteAsync(_ =>
        {
            started = true;
            return ValueTask.CompletedTask;
        }, cancelled).AsTask();

        (await execution.Awaiting(e => e).Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(cancelled);
        started.Should().BeFalse();
    }

    [Fact]
    public async Task An_infinite_total_hands_on_the_callers_cancellation_and_never_expires()
    {
        using var caller = new CancellationTokenSource();
        var policy = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Total = Timeout.InfiniteTimeSpan }, _time);
        Task execution = policy.ExecuteAsync(Hang, caller.Token).AsTask();

        _time.Advance(TimeSpan.FromDays(10_000));
        bool running = !execution.IsCompleted;
        caller.Cancel();

        running.Should().BeTrue();
        (await execution.Awaiting(e => e.Soon()).Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(caller.Token);
    }

    [Fact]
    public async Task The_total_may_be_a_slice_of_the_ambient_budget()
    {
        var attempt = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { TotalFor = () => TimeoutBudget.Current?.Slice(4) }, _time);
        TimeSpan alone = await attempt.ExecuteAsync(_ => new ValueTask<TimeSpan>(TimeoutBudget.Current!.Total), CancellationToken.None);
        using var outer = TimeoutBudget.Start(TimeSpan.FromSeconds(8), "", _time);

        TimeSpan sliced = await attempt.ExecuteAsync(_ => new ValueTask<TimeSpan>(TimeoutBudget.Current!.Total), CancellationToken.None);

        alone.Should().Be(TimeSpan.FromSeconds(30), "null means Total");
        sliced.Should().Be(TimeSpan.FromSeconds(2));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_slice_that_throws_or_is_nonsense_falls_back_to_the_total_and_is_logged_once(bool throws)
    {
        var log = new RecordingLogger<TimeoutBudgetPolicy>();
        var policy = new TimeoutBudgetPolicy(
            new TimeoutBudgetOptions { Name = "attempt", TotalFor = () => throws ? throw new InvalidOperationException("no") : TimeSpan.FromSeconds(-7) }, _time, log);

        for (int i = 0; i < 3; i++)
        {
            TimeSpan total = await policy.ExecuteAsync(_ => new ValueTask<TimeSpan>(TimeoutBudget.Current!.Total), CancellationToken.None);
            total.Should().Be(TimeSpan.FromSeconds(30));
        }

        log.Entries.Should().ContainSingle().Which.Should().Match<(LogLevel Level, string Text)>(entry => entry.Level == LogLevel.Error && entry.Text.Contains("'attempt'"));
    }

    [Fact]
    public async Task Every_overload_runs_its_action_inside_the_budget()
    {
        TimeoutBudgetPolicy policy = Policy(10);
        static string Layer() => TimeoutBudget.Current!.Name;
        List<string> seen = [];

        seen.Add(await policy.ExecuteAsync((_, _) => new ValueTask<string>(Layer()), 0, CancellationToken.None));
        seen.Add(await policy.ExecuteAsync((_, _) => Task.FromResult(Layer()), 0, CancellationToken.None));
        seen.Add(await policy.ExecuteAsync(_ => new ValueTask<string>(Layer()), CancellationToken.None));
        seen.Add(await policy.ExecuteAsync(_ => Task.FromResult(Layer()), CancellationToken.None));
        await policy.ExecuteAsync(
            _ =>
            {
                seen.Add(Layer());
                return ValueTask.CompletedTask;
            }, CancellationToken.None);
        await policy.ExecuteAsync(
            async Task (_) =>
            {
                await Task.Yield();
                seen.Add(Layer());
            }, CancellationToken.None);

        seen.Should().HaveCount(6).And.AllBe("checkout");
    }

    [Fact]
    public async Task Only_argument_errors_throw_synchronously()
    {
        TimeoutBudgetPolicy policy = Policy(10);
        var failure = new InvalidOperationException("before the first await");

        policy.Invoking(p => p.ExecuteAsync((Func<int, CancellationToken, ValueTask<int>>)null!, 0)).Should().Throw<ArgumentNullException>();
        policy.Invoking(p => p.ExecuteAsync((Func<int, CancellationToken, Task<int>>)null!, 0)).Should().Throw<ArgumentNullException>();
        policy.Invoking(p => p.ExecuteAsync((Func<CancellationToken, ValueTask<int>>)null!)).Should().Throw<ArgumentNullException>();
        policy.Invoking(p => p.ExecuteAsync((Func<CancellationToken, Task<int>>)null!)).Should().Throw<ArgumentNullException>();
        policy.Invoking(p => p.ExecuteAsync((Func<CancellationToken, ValueTask>)null!)).Should().Throw<ArgumentNullException>();
        policy.Invoking(p => p.ExecuteAsync((Func<CancellationToken, Task>)null!)).Should().Throw<ArgumentNullException>();
        Task[] failed =
        [
            policy.ExecuteAsync(ValueTask<int> (int _, CancellationToken _) => throw failure, 0, CancellationToken.None).AsTask(),
            policy.ExecuteAsync(Task<int> (int _, CancellationToken _) => throw failure, 0, CancellationToken.None).AsTask(),
            policy.ExecuteAsync(ValueTask<int> (_) => throw failure, CancellationToken.None).AsTask(),
            policy.ExecuteAsync(Task<int> (_) => throw failure, CancellationToken.None).AsTask(),
            policy.ExecuteAsync(ValueTask (_) => throw failure, CancellationToken.None).AsTask(),
            policy.ExecuteAsync(Task (_) => throw failure, CancellationToken.None).AsTask(),
        ];
        foreach (Task task in failed)
        {
            (await task.Awaiting(t => t).Should().ThrowExactlyAsync<InvalidOperationException>()).Which.Should().BeSameAs(failure);
        }
    }

    [Fact]
    public async Task What_the_action_sets_does_not_leak_into_the_caller_nor_does_the_budget()
    {
        var local = new AsyncLocal<string> { Value = "caller" };
        TimeoutBudgetPolicy policy = Policy(10);

        ValueTask execution = policy.ExecuteAsync(
            async ValueTask (_) =>
            {
                local.Value = "action";
                await Task.Yield();
            }, CancellationToken.None);
        TimeoutBudget? whileRunning = TimeoutBudget.Current;
        await execution;

        whileRunning.Should().BeNull();
        local.Value.Should().Be("caller");
        TimeoutBudget.Current.Should().BeNull();
    }

    [Fact]
    public async Task It_works_where_the_flow_of_the_context_is_suppressed()
    {
        TimeoutBudgetPolicy policy = Policy(10);
        Task<string> execution;
        TimeoutBudget? after;
        using (ExecutionContext.SuppressFlow())
        {
            execution = policy.ExecuteAsync(
                async token =>
                {
                    string name = TimeoutBudget.Current!.Name;
                    await Hang(token);
                    return name;
                }, CancellationToken.None).AsTask();
            after = TimeoutBudget.Current;
            _time.Advance(TimeSpan.FromSeconds(10));
        }

        after.Should().BeNull();
        await execution.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>();
    }

    [Fact]
    public async Task A_user_who_disposes_the_budget_of_a_policy_does_not_take_its_deadline_away()
    {
        Task execution = Policy(10).ExecuteAsync(
            async ValueTask (token) =>
            {
                using (TimeoutBudget.Current)
                {
                }

                TimeoutBudget.Current!.Name.Should().Be("checkout");
                await Hang(token);
            }, CancellationToken.None).AsTask();
        _time.Advance(TimeSpan.FromSeconds(10));

        await execution.Awaiting(task => task.Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>();
    }

    [Fact]
    public async Task An_update_holds_for_executions_that_start_later()
    {
        TimeoutBudgetPolicy policy = Policy(10);
        Task running = policy.ExecuteAsync(Hang, CancellationToken.None).AsTask();

        policy.Update(new TimeoutBudgetOptions { Name = "checkout", Total = TimeSpan.FromSeconds(2) });
        Task later = policy.ExecuteAsync(Hang, CancellationToken.None).AsTask();
        _time.Advance(TimeSpan.FromSeconds(2));

        await later.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>();
        running.IsCompleted.Should().BeFalse();
        _time.Advance(TimeSpan.FromSeconds(8));
        (await running.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>()).Which.Total.Should().Be(TimeSpan.FromSeconds(10));
    }

    [Fact]
    public void An_invalid_update_throws_and_leaves_the_old_options_in_force()
    {
        TimeoutBudgetPolicy policy = Policy(10);

        policy.Invoking(p => p.Update(new TimeoutBudgetOptions { Name = "other", Total = TimeSpan.FromSeconds(-2) })).Should().Throw<OptionsValidationException>();
        policy.Invoking(p => p.Update(null!)).Should().Throw<ArgumentNullException>();

        policy.Name.Should().Be("checkout");
    }

    [Fact]
    public async Task A_change_to_the_options_object_after_construction_has_no_effect()
    {
        var options = new TimeoutBudgetOptions { Name = "checkout", Total = TimeSpan.FromSeconds(10) };
        var policy = new TimeoutBudgetPolicy(options, _time);
        options.Total = TimeSpan.FromSeconds(1);
        options.TotalFor = () => TimeSpan.Zero;

        TimeSpan total = await policy.ExecuteAsync(_ => new ValueTask<TimeSpan>(TimeoutBudget.Current!.Total), CancellationToken.None);

        total.Should().Be(TimeSpan.FromSeconds(10));
    }
}
