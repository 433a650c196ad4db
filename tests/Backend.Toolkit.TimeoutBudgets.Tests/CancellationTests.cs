using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.TimeoutBudgets.Tests;

/// <summary>Who is told what when several deadlines, callers and callbacks meet.</summary>
public sealed class CancellationTests
{
    private readonly FakeTimeProvider _time = new();

    private TimeoutBudgetPolicy Policy(double seconds, string name = "checkout", bool abandon = false) =>
        new(new TimeoutBudgetOptions { Name = name, Total = TimeSpan.FromSeconds(seconds), AbandonOnExpiry = abandon }, _time);

    private TimeoutBudget Start(double seconds, CancellationToken token = default) => TimeoutBudget.Start(TimeSpan.FromSeconds(seconds), "", _time, token);

    private Task Hang(CancellationToken token) => Task.Delay(Timeout.InfiniteTimeSpan, _time, token);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_abandoned_action_may_block_in_a_callback_or_after_it(bool inCallback)
    {
        using var release = new ManualResetEventSlim();
        var registered = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task execution = Policy(10, abandon: true).ExecuteAsync(
            async Task (token) =>
            {
                await Task.Yield();
                Task hang = Hang(token);
                if (inCallback)
                {
                    token.Register(release.Wait);
                }

                registered.SetResult();
                await hang.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                release.Wait();
            }, CancellationToken.None).AsTask();
        await registered.Task;

        _time.Advance(TimeSpan.FromSeconds(10));

        await execution.Awaiting(task => task.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>();
        release.Set();
    }

    [Fact]
    public async Task An_abandoned_action_that_blocks_in_a_callback_keeps_no_caller_waiting_that_cancels()
    {
        using var release = new ManualResetEventSlim();
        using var caller = new CancellationTokenSource();
        var registered = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task outer = Policy(20, "outer").ExecuteAsync(
            outerToken => Policy(30, "inner", abandon: true).ExecuteAsync(
                async Task (token) =>
                {
                    await Task.Yield();
                    token.Register(release.Wait);
                    registered.SetResult();
                    await Hang(CancellationToken.None);
                }, outerToken), caller.Token).AsTask();
        await registered.Task;

        var cancelling = Task.Run(caller.Cancel);

        (await outer.Awaiting(task => task.Soon()).Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(caller.Token);
        release.Set();
        await cancelling.Soon();
    }

    [Fact]
    public void A_callback_that_blocks_holds_up_no_scope_inside_that_has_a_token_of_its_own()
    {
        using var release = new ManualResetEventSlim();
        using var caller = new CancellationTokenSource();
        using TimeoutBudget outer = Start(3, caller.Token);
        using TimeoutBudget inner = Start(10, caller.Token);
        using TimeoutBudget innermost = Start(2);
        outer.Token.Register(release.Wait);
        inner.Token.Register(release.Wait);

        _time.Advance(TimeSpan.FromSeconds(3));

        Eventually.BeTrue(() => inner.Token.IsCancellationRequested && innermost.Token.IsCancellationRequested, "each is fired by the table itself");
        release.Set();
    }

    [Fact]
    public void An_outer_scope_that_fires_runs_the_callbacks_of_inner_ones_on_other_threads()
    {
        using var caller = new CancellationTokenSource();
        using TimeoutBudget outer = Start(3, caller.Token);
        using TimeoutBudget inner = Start(2);
        int thread = 0;
        inner.Token.Register(() => Volatile.Write(ref thread, Environment.CurrentManagedThreadId));

        caller.Cancel();
        Eventually.BeTrue(() => Volatile.Read(ref thread) != 0, "the caller cancels the inner scope too");

        thread.Should().NotBe(Environment.CurrentManagedThreadId, "one that blocks must not hold up the other inner scopes");
    }

    [Theory]
    [InlineData(3, 4, true)]
    [InlineData(3, 4, false)]
    [InlineData(3, 10, true)]
    [InlineData(3, 10, false)]
    public async Task When_both_deadlines_passed_before_the_timer_came_the_earlier_one_is_reported(double inner, double outer, bool handsTokenOn)
    {
        Task execution = Policy(outer, "outer").ExecuteAsync(
            token => Policy(inner, "inner").ExecuteAsync(Hang, handsTokenOn ? token : CancellationToken.None), CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(12));

        (await execution.Awaiting(task => task.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>()).Which.Name.Should().Be("inner");
    }

    [Fact]
    public async Task When_a_scope_started_by_hand_has_expired_too_the_earlier_deadline_of_the_policy_is_still_reported()
    {
        var hold = new TaskCompletionSource();
        using TimeoutBudget outer = Start(5);
        Task execution = Policy(3, "inner").ExecuteAsync(
            async Task (token) =>
            {
                await hold.Task;
                token.ThrowIfCancellationRequested();
            }, outer.Token).AsTask();

        _time.Advance(TimeSpan.FromSeconds(3));
        _time.Advance(TimeSpan.FromSeconds(3));
        hold.SetResult();

        (await execution.Awaiting(task => task.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>()).Which.Name.Should().Be("inner");
    }

    [Fact]
    public async Task The_cancellation_of_a_caller_three_layers_out_wins_before_it_has_travelled_in()
    {
        using var caller = new CancellationTokenSource();
        var end = new TaskCompletionSource();
        Task execution = Policy(10, "outer").ExecuteAsync(
            outer => Policy(8, "middle").ExecuteAsync(
                middle => Policy(3, "inner").ExecuteAsync(_ => end.Task, middle), outer), caller.Token).AsTask();
        _time.Advance(TimeSpan.FromSeconds(4));

        // Registered last, so it runs before the scopes hear of it.
        using CancellationTokenRegistration first = caller.Token.Register(() => end.SetException(new OperationCanceledException(caller.Token)));
        caller.Cancel();

        (await execution.Awaiting(task => task.Soon()).Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(caller.Token);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(30)]
    public void The_caller_of_a_scope_that_has_ended_cancels_none_inside(double seconds)
    {
        using var caller = new CancellationTokenSource();
        TimeoutBudget outer = Start(10, caller.Token);
        using TimeoutBudget inner = Start(seconds);

        outer.Dispose();
        caller.Cancel();

        inner.Token.IsCancellationRequested.Should().BeFalse();
        _time.Advance(TimeSpan.FromSeconds(10));
        Eventually.BeTrue(() => inner.Token.IsCancellationRequested, "its deadline stays");
    }

    [Fact]
    public void A_relay_of_scopes_with_a_caller_each_keeps_no_chain_of_them()
    {
        (TimeoutBudget last, List<WeakReference> scopes) = Relay();

        for (int i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        scopes.Count(scope => scope.IsAlive).Should().BeLessThan(5);
        GC.KeepAlive(last);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private (TimeoutBudget Last, List<WeakReference> Scopes) Relay()
    {
        List<WeakReference> scopes = [];
        TimeoutBudget? last = null;
        ExecutionContext context = ExecutionContext.Capture()!;
        for (int i = 0; i < 500; i++)
        {
            ExecutionContext.Run(
                context,
                _ =>
                {
                    TimeoutBudget next = Start(1_000, new CancellationTokenSource().Token);
                    scopes.Add(new WeakReference(BudgetScope.Current));
                    context = ExecutionContext.Capture()!;
                    last?.Dispose();
                    last = next;
                },
                null);
        }

        return (last!, scopes);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_action_is_abandoned_with_the_callers_cancellation_also_when_a_callback_of_somebody_else_holds_its_own_token_up(bool registersOnOuter)
    {
        using var release = new ManualResetEventSlim();
        using var caller = new CancellationTokenSource();
        var go = new TaskCompletionSource();
        var seen = new TaskCompletionSource<TimeoutBudget?>();
        using TimeoutBudget outer = Start(20, caller.Token);
        Task execution = Policy(10, abandon: true).ExecuteAsync(
            async Task (token) =>
            {
                (registersOnOuter ? outer.Token : caller.Token).Register(release.Wait);
                await go.Task;
                seen.SetResult(TimeoutBudget.Current);
            }, caller.Token).AsTask();

        var cancelling = Task.Run(caller.Cancel);

        (await execution.Awaiting(task => task.Soon()).Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(caller.Token);
        go.SetResult();
        (await seen.Task.Soon()).Should().BeSameAs(outer, "the scope of the execution has ended");
        release.Set();
        await cancelling.Soon();
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(false, true)]
    public async Task Work_started_while_suppressed_does_not_regain_the_budget_when_a_scope_of_its_own_ends(bool suppresses, bool startsBefore)
    {
        using TimeoutBudget request = Start(10);
        var left = new TaskCompletionSource();
        Task<TimeoutBudget?> work;
        using (TimeoutBudget.Suppress())
        {
            work = Task.Run(async () =>
            {
                IDisposable? before = startsBefore ? Start(5) : null;
                await left.Task;
                using (before ?? (suppresses ? TimeoutBudget.Suppress() : Start(5)))
                {
                }

                return TimeoutBudget.Current;
            });
        }

        left.SetResult();

        (await work.Soon()).Should().BeNull();
    }

    [Fact]
    public void A_relay_of_suppressions_keeps_no_chain_of_them()
    {
        List<WeakReference> scopes = RelaySuppressions(out ExecutionContext last);

        for (int i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        scopes.Count(scope => scope.IsAlive).Should().BeLessThan(5);
        GC.KeepAlive(last);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private List<WeakReference> RelaySuppressions(out ExecutionContext last)
    {
        List<WeakReference> scopes = [];
        ExecutionContext context = ExecutionContext.Capture()!;
        for (int i = 0; i < 500; i++)
        {
            ExecutionContext.Run(
                context,
                _ =>
                {
                    using IDisposable suppression = TimeoutBudget.Suppress();
                    using TimeoutBudget scope = Start(1_000);
                    scopes.Add(new WeakReference(BudgetScope.Current));
                    context = ExecutionContext.Capture()!;
                },
                null);
        }

        last = context;
        return scopes;
    }

    [Theory]
    [InlineData(3)]
    [InlineData(0)]
    public async Task A_caller_that_had_cancelled_before_the_outer_scope_started_is_not_reported_as_a_timeout_inside(double inner)
    {
        var end = new TaskCompletionSource();
        using TimeoutBudget outer = Start(10, new CancellationToken(canceled: true));
        Task execution = Policy(inner, "inner").ExecuteAsync(
            async Task (token) =>
            {
                await end.Task;
                token.ThrowIfCancellationRequested();
            }, CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(4));
        end.SetResult();

        await execution.Awaiting(task => task.Soon()).Should().ThrowAsync<OperationCanceledException>();
    }

    [Fact]
    public async Task What_an_abandoned_outer_execution_left_behind_still_knows_that_the_caller_cancelled()
    {
        using var caller = new CancellationTokenSource();
        var end = new TaskCompletionSource();
        Task? inner = null;
        Task outer = Policy(10, "outer", abandon: true).ExecuteAsync(
            async Task (outerToken) =>
            {
                inner = Policy(3, "inner").ExecuteAsync(
                    async Task (token) =>
                    {
                        await end.Task;
                        token.ThrowIfCancellationRequested();
                    }, outerToken).AsTask();
                await inner;
            }, caller.Token).AsTask();

        caller.Cancel();
        await outer.Awaiting(task => task.Soon()).Should().ThrowAsync<OperationCanceledException>();
        _time.Advance(TimeSpan.FromSeconds(4));
        end.SetResult();

        await inner!.Awaiting(task => task.Soon()).Should().ThrowAsync<OperationCanceledException>();
    }

    [Fact]
    public void A_token_of_a_scope_beyond_one_that_has_ended_is_heard_when_it_is_given()
    {
        using var caller = new CancellationTokenSource();
        using TimeoutBudget far = Start(100, caller.Token);
        TimeoutBudget ended = Start(50);
        using TimeoutBudget near = Start(40);
        ended.Dispose();
        using TimeoutBudget inner = Start(10, far.Token);

        caller.Cancel();

        Eventually.BeTrue(() => inner.Token.IsCancellationRequested, "the token was given to it");
    }

    [Fact]
    public async Task The_token_of_an_outer_scope_is_not_taken_for_a_callers_when_that_scope_has_ended_first()
    {
        var end = new TaskCompletionSource();
        TimeoutBudget outer = Start(5);
        TimeoutBudget middle = Start(4);
        Task execution = Policy(3, "inner").ExecuteAsync(
            async Task (token) =>
            {
                await end.Task;
                token.ThrowIfCancellationRequested();
            }, outer.Token).AsTask();
        _time.Advance(TimeSpan.FromSeconds(6));
        Eventually.BeTrue(() => outer.Token.IsCancellationRequested, "it has expired");

        outer.Dispose();
        middle.Dispose();
        end.SetResult();

        await execution.Awaiting(task => task.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>();
    }

    [Fact]
    public void What_has_expired_fires_also_when_the_timer_cannot_be_set_again()
    {
        var clock = new CountingTimeProvider();
        using var later = TimeoutBudget.Start(TimeSpan.FromSeconds(20), "", clock);
        using var first = TimeoutBudget.Start(TimeSpan.FromSeconds(5), "", clock);

        clock.FailNextArming = true;
        Record.Exception(() => clock.Fake.Advance(TimeSpan.FromSeconds(6)));

        Eventually.BeTrue(() => first.Token.IsCancellationRequested, "its deadline has passed");
    }

    [Fact]
    public async Task A_suppression_that_ends_in_another_flow_loses_no_budget_here()
    {
        using TimeoutBudget outer = Start(10);
        IDisposable suppression = TimeoutBudget.Suppress();

        await Task.Run(suppression.Dispose, TestContext.Current.CancellationToken);
        suppression.Dispose();

        TimeoutBudget.Current.Should().BeSameAs(outer);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_metric_listener_that_throws_replaces_no_outcome(bool abandon)
    {
        string name = "listener-" + Guid.NewGuid();
        using var listener = new MeterListener();
        listener.InstrumentPublished = static (instrument, listener) =>
        {
            if (instrument.Meter.Name == "Backend.Toolkit.TimeoutBudgets")
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<long>((_, _, tags, _) =>
        {
            if (Equals(tags[0].Value, name))
            {
                throw new InvalidOperationException("The listener is broken.");
            }
        });
        listener.Start();
        Task execution = Policy(3, name, abandon).ExecuteAsync(token => Hang(abandon ? CancellationToken.None : token), CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(3));

        await execution.Awaiting(task => task.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Several_exceptions_are_the_timeout_only_when_each_of_them_is_a_cancellation(bool all)
    {
        Task execution = Policy(3).ExecuteAsync(
            async Task (token) =>
            {
                await Hang(token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                throw new AggregateException(new OperationCanceledException(token), all ? new TaskCanceledException() : new IOException());
            }, CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(3));

        Exception? thrown = await Record.ExceptionAsync(() => execution.Soon());
        thrown!.GetType().Should().Be(all ? typeof(TimeoutBudgetExceededException) : typeof(AggregateException));
    }

    [Fact]
    public void A_clock_whose_timer_fails_once_is_armed_by_the_next_scope()
    {
        var clock = new CountingTimeProvider { FailNextArming = true };

        Action first = () => TimeoutBudget.Start(TimeSpan.FromSeconds(3), "", clock);
        first.Should().Throw<InvalidOperationException>();
        using var second = TimeoutBudget.Start(TimeSpan.FromSeconds(5), "", clock);
        clock.Fake.Advance(TimeSpan.FromSeconds(5));

        Eventually.BeTrue(() => second.Token.IsCancellationRequested, "its deadline has passed");
    }

    [Fact]
    public async Task Work_that_an_execution_left_behind_falls_back_to_the_outer_budget_and_then_to_none()
    {
        var gate = new SemaphoreSlim(0);
        var seen = System.Threading.Channels.Channel.CreateUnbounded<string?>();
        async Task Report()
        {
            for (int i = 0; i < 2; i++)
            {
                await gate.WaitAsync();
                seen.Writer.TryWrite(TimeoutBudget.Current?.Name);
            }
        }

        await Policy(10, "outer").ExecuteAsync(
            async Task (token) =>
            {
                await Policy(5, "inner").ExecuteAsync(
                    token =>
                    {
                        Task.Run(Report, token);
                        return ValueTask.CompletedTask;
                    }, token);
                gate.Release();
                (await seen.Reader.ReadAsync(CancellationToken.None)).Should().Be("outer");
            }, CancellationToken.None);
        gate.Release();

        (await seen.Reader.ReadAsync(TestContext.Current.CancellationToken)).Should().BeNull();
    }

    [Fact]
    public void A_detached_budget_is_current_nowhere_and_ends_with_the_one_around_it()
    {
        using TimeoutBudget outer = Start(3);
        using var detached = TimeoutBudget.StartDetached(TimeSpan.FromSeconds(10), "body", _time);

        TimeoutBudget? current = TimeoutBudget.Current;
        _time.Advance(TimeSpan.FromSeconds(3));

        current.Should().BeSameAs(outer);
        detached.Total.Should().Be(TimeSpan.FromSeconds(3));
        Eventually.BeTrue(() => detached.Token.IsCancellationRequested, "the outer deadline is the earlier one");
    }

    [Fact]
    public async Task An_execution_may_bring_its_own_total()
    {
        Task execution = Policy(10).ExecuteAsync(
            static async (test, token) =>
            {
                await test.Hang(token);
                return 0;
            }, this, TimeSpan.FromSeconds(2), CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(2));

        (await execution.Awaiting(task => task.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>()).Which.Total.Should().Be(TimeSpan.FromSeconds(2));
        Action negative = () => _ = Policy(10).ExecuteAsync(static (_, _) => new ValueTask<int>(0), 0, TimeSpan.FromTicks(-1), CancellationToken.None);
        negative.Should().Throw<ArgumentOutOfRangeException>();
    }

    [Fact]
    public void Exhausted_retries_are_known_to_the_whole_nest_until_each_dependency_has_answered()
    {
        using TimeoutBudget outer = Start(10);
        using (TimeoutBudget inner = Start(5))
        {
            inner.MarkRetriesExhausted("payments");
            inner.MarkRetriesExhausted("stock");
        }

        bool both = outer.RetriesExhausted;
        outer.ClearRetriesExhausted("payments");
        outer.ClearRetriesExhausted("never marked");
        bool one = outer.RetriesExhausted;
        using (TimeoutBudget inner = Start(5))
        {
            inner.RetriesExhausted.Should().BeTrue();
            inner.ClearRetriesExhausted("stock");
        }

        (both, one, outer.RetriesExhausted).Should().Be((true, true, false));
        using IDisposable suppression = TimeoutBudget.Suppress();
        using TimeoutBudget hidden = Start(1);
        hidden.MarkRetriesExhausted("payments");
        outer.RetriesExhausted.Should().BeFalse("what is suppressed says nothing about it");
    }

    [Fact]
    public async Task On_the_real_clock_a_token_fires_soon_after_its_deadline_and_never_before()
    {
        int early = 0;
        List<Task> fired = [];
        for (int i = 0; i < 200; i++)
        {
            using IDisposable alone = TimeoutBudget.Suppress();
            var budget = TimeoutBudget.Start(TimeSpan.FromMilliseconds(20 + i / 2.7));
            var source = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            budget.Token.UnsafeRegister(
                _ =>
                {
                    if (!budget.IsExpired)
                    {
                        Interlocked.Increment(ref early);
                    }

                    source.SetResult();
                }, null);
            fired.Add(source.Task);
        }

        await Task.WhenAll(fired).Soon();

        early.Should().Be(0);
    }
}
