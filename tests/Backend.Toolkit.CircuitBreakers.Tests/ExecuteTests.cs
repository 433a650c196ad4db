using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.CircuitBreakers.Tests;

public sealed class ExecuteTests
{
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public async Task It_returns_what_the_action_returns_and_hands_over_state_and_token()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        using var source = new CancellationTokenSource();

        (int, CancellationToken) result = await breaker.ExecuteAsync(
            static (state, token) => new ValueTask<(int, CancellationToken)>((state, token)), 42, source.Token);

        result.Should().Be((42, source.Token));
        breaker.Counts.Should().Be(new CallCounts(1, 0, 0));
    }

    [Fact]
    public async Task Every_overload_counts_success_and_failure()
    {
        CircuitBreaker breaker = Circuits.New(_time, o => o.MinimumThroughput = 1000);
        var boom = new InvalidOperationException("boom");
        Func<bool, ValueTask>[] calls =
        [
            async fails => await breaker.ExecuteAsync((state, _) => fails ? ValueTask.FromException<int>(boom) : new ValueTask<int>(state), 1),
            async fails => await breaker.ExecuteAsync((state, _) => fails ? Task.FromException<int>(boom) : Task.FromResult(state), 1),
            async fails => await breaker.ExecuteAsync(_ => fails ? ValueTask.FromException<int>(boom) : new ValueTask<int>(1)),
            async fails => await breaker.ExecuteAsync(_ => fails ? Task.FromException<int>(boom) : Task.FromResult(1)),
            async fails => await breaker.ExecuteAsync(_ => fails ? ValueTask.FromException(boom) : ValueTask.CompletedTask),
            async fails => await breaker.ExecuteAsync(_ => fails ? Task.FromException(boom) : Task.CompletedTask),
            async fails => await breaker.ExecuteAsync(async _ =>
            {
                await Task.Yield();
                if (fails)
                {
                    throw boom;
                }
            }),
            async fails => await breaker.ExecuteAsync(_ => fails ? throw boom : new ValueTask<int>(1)),
        ];

        foreach (Func<bool, ValueTask> call in calls)
        {
            CallCounts before = breaker.Counts;
            await call(false);
            (await FluentActions.Awaiting(() => call(true).AsTask()).Should().ThrowAsync<InvalidOperationException>()).Which.Should().BeSameAs(boom);

            breaker.Counts.Should().Be(before + new CallCounts(1, 1, 0));
        }
    }

    [Fact]
    public void A_null_action_throws_at_once()
    {
        CircuitBreaker breaker = Circuits.New(_time);

        Action[] acts =
        [
            () => _ = breaker.ExecuteAsync((Func<int, CancellationToken, ValueTask<int>>)null!, 1),
            () => _ = breaker.ExecuteAsync((Func<int, CancellationToken, Task<int>>)null!, 1),
            () => _ = breaker.ExecuteAsync((Func<CancellationToken, ValueTask<int>>)null!),
            () => _ = breaker.ExecuteAsync((Func<CancellationToken, Task<int>>)null!),
            () => _ = breaker.ExecuteAsync((Func<CancellationToken, ValueTask>)null!),
            () => _ = breaker.ExecuteAsync((Func<CancellationToken, Task>)null!),
        ];

        acts.Should().AllSatisfy(act => act.Should().Throw<ArgumentNullException>().WithParameterName("action"));
        breaker.Counts.Should().Be(default(CallCounts));
    }

    [Fact]
    public async Task All_but_argument_errors_come_out_through_the_task()
    {
        CircuitBreaker breaker = Circuits.New(_time);

        ValueTask<int> thrown = breaker.ExecuteAsync<int>(ValueTask<int> (_) => throw new TimeoutException());
        ValueTask nothing = breaker.ExecuteAsync(Task (_) => null!);

        await FluentActions.Awaiting(() => thrown.AsTask()).Should().ThrowAsync<TimeoutException>();
        await FluentActions.Awaiting(() => nothing.AsTask()).Should().ThrowAsync<Exception>();
        breaker.Counts.Should().Be(new CallCounts(0, 2, 0));
    }

    [Fact]
    public async Task An_open_circuit_rejects_with_its_state_and_when_to_retry_and_does_not_run_the_action()
    {
        CircuitBreaker breaker = Circuits.Open(_time, o => o.Name = "payments");
        _time.Advance(TimeSpan.FromSeconds(2));
        bool ran = false;

        CircuitOpenException exception = (await FluentActions.Awaiting(() => breaker.ExecuteAsync(_ =>
        {
            ran = true;
            return ValueTask.CompletedTask;
        }).AsTask()).Should().ThrowAsync<CircuitOpenException>()).Which;

        ran.Should().BeFalse();
        exception.State.Should().Be(CircuitState.Open);
        exception.RetryAfter.Should().Be(TimeSpan.FromSeconds(3));
        exception.Name.Should().Be("payments");
        exception.Message.Should().Contain("payments").And.Contain("00:00:03");
        exception.InnerException.Should().BeNull("it is never another caller's exception");
    }

    [Fact]
    public async Task A_half_open_circuit_with_its_probes_out_says_so()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time);
        breaker.Enter();

        CircuitOpenException exception = await Rejection(breaker);

        exception.State.Should().Be(CircuitState.HalfOpen);
        exception.RetryAfter.Should().Be(TimeSpan.Zero);
    }

    [Fact]
    public async Task An_isolated_circuit_says_never_to_retry()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        breaker.Isolate();

        CircuitOpenException exception = await Rejection(breaker);

        exception.State.Should().Be(CircuitState.Isolated);
        exception.RetryAfter.Should().Be(Timeout.InfiniteTimeSpan);
    }

    [Fact]
    public async Task The_callers_cancellation_is_neutral()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        using var source = new CancellationTokenSource();

        Task<int> call = breaker.ExecuteAsync(async token =>
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, _time, token);
            return 1;
        }, source.Token).AsTask();
        await source.CancelAsync();

        await FluentActions.Awaiting(() => call).Should().ThrowAsync<OperationCanceledException>();
        call.IsCanceled.Should().BeTrue();
        breaker.Counts.Should().Be(default(CallCounts));
    }

    [Fact]
    public async Task A_cancellation_that_a_driver_reports_as_its_own_error_is_neutral_too()
    {
        CircuitBreaker breaker = Circuits.New(_time);
        using var source = new CancellationTokenSource();

        await FluentActions.Awaiting(() => breaker.ExecuteAsync(_ =>
        {
            source.Cancel();
            throw new IOException("operation aborted");
        }, source.Token).AsTask()).Should().ThrowAsync<IOException>();

        breaker.Counts.Should().Be(default(CallCounts));
    }

    [Fact]
    public async Task A_token_that_is_cancelled_already_runs_nothing()
    {
        CircuitBreaker breaker = Circuits.New(_time);

        Task call = breaker.ExecuteAsync(_ => throw new InvalidOperationException(), new CancellationToken(canceled: true)).AsTask();

        await FluentActions.Awaiting(() => call).Should().ThrowAsync<OperationCanceledException>();
        breaker.Counts.Should().Be(default(CallCounts));
    }

    [Fact]
    public async Task A_timeout_inside_the_action_is_a_failure()
    {
        CircuitBreaker breaker = Circuits.New(_time);

        await FluentActions.Awaiting(() => breaker.ExecuteAsync(_ => throw new TaskCanceledException("the action's own timeout")).AsTask())
            .Should().ThrowAsync<TaskCanceledException>();

        breaker.Counts.Should().Be(new CallCounts(0, 1, 0));
    }

    [Fact]
    public async Task IsFailure_decides_which_exceptions_count()
    {
        CircuitBreaker breaker = Circuits.New(_time, o => o.IsFailure = exception => exception is TimeoutException);

        await FluentActions.Awaiting(() => breaker.ExecuteAsync(_ => throw new FormatException()).AsTask()).Should().ThrowAsync<FormatException>();
        await FluentActions.Awaiting(() => breaker.ExecuteAsync(_ => throw new TimeoutException()).AsTask()).Should().ThrowAsync<TimeoutException>();

        breaker.Counts.Should().Be(new CallCounts(1, 1, 0));
    }

    [Fact]
    public async Task FailOn_judges_results_of_its_type_only()
    {
        CircuitBreaker breaker = Circuits.New(_time, o => o.FailOn<int>(status => status >= 500).FailOn<string>(text => text.Length == 0).MinimumThroughput = 100);

        await breaker.ExecuteAsync(_ => new ValueTask<int>(503));
        await breaker.ExecuteAsync(_ => new ValueTask<int>(404));
        await breaker.ExecuteAsync(_ => new ValueTask<long>(503));
        await breaker.ExecuteAsync(_ => new ValueTask<string>(""));

        breaker.Counts.Should().Be(new CallCounts(2, 2, 0));
    }

    [Fact]
    public async Task FailOn_matches_the_type_it_was_given_for_whatever_variance_allows()
    {
        Func<object, bool> any = _ => true;
        CircuitBreaker forObjects = Circuits.New(_time, o => o.FailOn(any));
        CircuitBreaker forStrings = Circuits.New(_time, o => o.FailOn<string>(any));

        await forObjects.ExecuteAsync(_ => new ValueTask<string>(""));
        await forStrings.ExecuteAsync(_ => new ValueTask<string>(""));

        forObjects.Counts.Should().Be(new CallCounts(1, 0, 0));
        forStrings.Counts.Should().Be(new CallCounts(0, 1, 0));
    }

    [Fact]
    public async Task A_predicate_that_throws_leaves_the_call_uncounted_and_never_hides_its_outcome()
    {
        CircuitBreaker breaker = Circuits.New(_time, o =>
        {
            o.FailOn<int>(_ => throw new NotSupportedException());
            o.IsFailure = _ => throw new NotSupportedException();
        });

        int result = await breaker.ExecuteAsync(_ => new ValueTask<int>(1));
        await FluentActions.Awaiting(() => breaker.ExecuteAsync(_ => throw new TimeoutException()).AsTask()).Should().ThrowAsync<TimeoutException>();

        result.Should().Be(1);
        breaker.Counts.Should().Be(default(CallCounts));
    }

    [Fact]
    public async Task A_probe_whose_predicate_throws_gives_its_slot_back()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time, o => o.FailOn<int>(_ => throw new NotSupportedException()));

        await breaker.ExecuteAsync(_ => new ValueTask<int>(1));

        breaker.State.Should().Be(CircuitState.HalfOpen);
        breaker.Rejects().Should().BeFalse();
    }

    [Fact]
    public async Task A_cancelled_probe_gives_its_slot_back()
    {
        CircuitBreaker breaker = Circuits.HalfOpen(_time);
        using var source = new CancellationTokenSource();

        Task call = breaker.ExecuteAsync(token => Task.Delay(Timeout.InfiniteTimeSpan, _time, token), source.Token).AsTask();
        breaker.Rejects().Should().BeTrue();
        await source.CancelAsync();
        await FluentActions.Awaiting(() => call).Should().ThrowAsync<OperationCanceledException>();

        breaker.Rejects().Should().BeFalse();
    }

    [Fact]
    public async Task Shadow_mode_opens_on_paper_and_rejects_nothing()
    {
        CircuitBreaker breaker = Circuits.Open(_time, o => o.Shadow = true);

        await breaker.ExecuteAsync(_ => ValueTask.CompletedTask);
        await FluentActions.Awaiting(() => breaker.ExecuteAsync(_ => throw new TimeoutException()).AsTask()).Should().ThrowAsync<TimeoutException>();
        breaker.State.Should().Be(CircuitState.Open, "calls that would not have been made do not count");
        _time.Advance(Circuits.Break);
        CircuitPermit probe = breaker.Enter();
        breaker.Enter().Success();
        breaker.State.Should().Be(CircuitState.HalfOpen, "the second call would have been rejected");
        probe.Success();

        breaker.State.Should().Be(CircuitState.Closed);
    }

    [Fact]
    public async Task The_happy_path_allocates_nothing()
    {
        var breaker = new CircuitBreaker(new CircuitBreakerOptions { Name = "allocation" });
        var slowCalls = new CircuitBreaker(new CircuitBreakerOptions { SlowCallDuration = TimeSpan.FromSeconds(1) }.FailOn<int>(result => result < 0));
        var open = new CircuitBreaker(new CircuitBreakerOptions());
        open.Isolate();
        using var group = new CircuitBreakerGroup<string>(new CircuitBreakerGroupOptions());

        long Allocated()
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < 1000; i++)
            {
                _ = breaker.ExecuteAsync(static (state, _) => new ValueTask<int>(state), i).Result;
                _ = breaker.ExecuteAsync(static _ => new ValueTask<int>(1)).Result;
                breaker.ExecuteAsync(static _ => ValueTask.CompletedTask).GetAwaiter().GetResult();
                breaker.ExecuteAsync(static _ => Task.CompletedTask).GetAwaiter().GetResult();
                _ = slowCalls.ExecuteAsync(static (state, _) => new ValueTask<int>(state), i).Result;
                _ = group.For("a").ExecuteAsync(static (state, _) => new ValueTask<int>(state), i).Result;
                open.TryEnter(out CircuitPermit permit);
                permit.Success();
            }

            return GC.GetAllocatedBytesForCurrentThread() - before;
        }

        Allocated();
        await Task.Yield();

        Allocated().Should().Be(0);
    }

    private static async Task<CircuitOpenException> Rejection(CircuitBreaker breaker) =>
        (await FluentActions.Awaiting(() => breaker.ExecuteAsync(_ => ValueTask.CompletedTask).AsTask()).Should().ThrowAsync<CircuitOpenException>()).Which;
}
