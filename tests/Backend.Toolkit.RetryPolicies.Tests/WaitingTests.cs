using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.RetryPolicies.Tests;

/// <summary>Hints, deadlines, and cancellation of the wait.</summary>
public sealed class WaitingTests
{
    private readonly InstantTime _time = new();
    private readonly LogList _log = new();

    [Fact]
    public async Task A_hint_replaces_the_backoff()
    {
        await FailTwice(o => o.DelayHint = _ => TimeSpan.FromSeconds(7));

        _time.Waits.Should().Equal(TimeSpan.FromSeconds(7), TimeSpan.FromSeconds(7));
    }

    [Fact]
    public async Task No_hint_means_the_backoff()
    {
        await FailTwice(o => o.DelayHint = _ => null);

        _time.Waits.Should().Equal(TimeSpan.FromMilliseconds(200), TimeSpan.FromMilliseconds(400));
    }

    [Fact]
    public async Task A_hint_is_honoured_up_to_its_maximum()
    {
        await FailTwice(o => o.DelayHint = _ => TimeSpan.MaxValue);

        _time.Waits.Should().Equal(TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(30));
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(long.MinValue)]
    [InlineData(0)]
    public async Task A_hint_of_zero_or_less_means_at_once(long ticks)
    {
        List<TimeSpan> delays = [];
        RetryPolicy policy = Policy(o => o.DelayHint = _ => new TimeSpan(ticks));

        await policy.ExecuteAsync((attempt, _) =>
        {
            delays.Add(attempt.Delay);
            return attempt.Number < 3 ? throw new IOException() : ValueTask.CompletedTask;
        });

        _time.Waits.Should().BeEmpty();
        delays.Should().Equal(TimeSpan.Zero, TimeSpan.Zero, TimeSpan.Zero);
    }

    [Fact]
    public async Task A_hint_of_never_ends_the_call_with_the_real_exception()
    {
        int calls = 0;
        RetryPolicy policy = Policy(o => o.DelayHint = _ => Timeout.InfiniteTimeSpan);

        Func<Task> call = () => policy.ExecuteAsync<int>(_ => throw new IOException($"{++calls}")).AsTask();

        await call.Should().ThrowAsync<IOException>().WithMessage("1");
        calls.Should().Be(1);
    }

    [Fact]
    public async Task A_hint_that_throws_loses_nothing_and_the_backoff_is_used()
    {
        await FailTwice(o => o.DelayHint = _ => throw new InvalidOperationException("bug"));

        _time.Waits.Should().Equal(TimeSpan.FromMilliseconds(200), TimeSpan.FromMilliseconds(400));
        _log.Entries.Where(entry => entry.Level == LogLevel.Error).Should().HaveCount(2)
            .And.OnlyContain(entry => entry.Message == "Retry policy 'test': DelayHint threw; the backoff is used.");
    }

    [Fact]
    public async Task A_hint_reads_a_result_of_exactly_its_type()
    {
        Func<object, TimeSpan?> other = _ => TimeSpan.FromSeconds(1);
        RetryPolicy policy = Policy(o => o
            .RetryOn<string>(_ => true)
            .DelayHintFor(other)
            .DelayHintFor<string>(_ => null)
            .DelayHintFor<string>(result => TimeSpan.FromSeconds(result.Length))
            .DelayHintFor<string>(_ => TimeSpan.FromSeconds(9)));

        await policy.ExecuteAsync((attempt, _) => new ValueTask<string>(new string('x', attempt.Number + 1)));

        _time.Waits.Should().Equal(TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(3));
    }

    [Fact]
    public async Task A_hint_on_a_result_may_say_never_or_throw()
    {
        RetryPolicy policy = Policy(o => o
            .RetryOn<int>(_ => true)
            .DelayHintFor<int>(result => result == 1 ? throw new InvalidOperationException("bug") : Timeout.InfiniteTimeSpan));

        int last = await policy.ExecuteAsync((attempt, _) => new ValueTask<int>(attempt.Number));

        last.Should().Be(2);
        _time.Waits.Should().Equal(TimeSpan.FromMilliseconds(200));
    }

    [Fact]
    public async Task A_zero_base_delay_waits_for_nothing()
    {
        await FailTwice(o => o.BaseDelay = TimeSpan.Zero);

        _time.Waits.Should().BeEmpty();
    }

    [Theory]
    [InlineData(200, 0, 0)]
    [InlineData(201, 0, 1)]
    [InlineData(250, 50, 0)]
    [InlineData(251, 50, 1)]
    [InlineData(0, 0, 0)]
    [InlineData(-5_000, 0, 0)]
    public async Task When_the_wait_and_an_attempt_do_not_fit_what_is_left_the_call_ends_at_once(int leftMilliseconds, int expectedMilliseconds, int retries)
    {
        int calls = 0;
        var budget = new RetryBudget(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio });
        double before = budget.Tokens;
        RetryPolicy policy = Policy(o =>
        {
            o.MaxAttempts = 2;
            o.Budget = budget;
            o.TimeLeft = () => TimeSpan.FromMilliseconds(leftMilliseconds);
            o.ExpectedAttemptTime = TimeSpan.FromMilliseconds(expectedMilliseconds);
        });

        Func<Task> call = () => policy.ExecuteAsync<int>(_ => throw new IOException($"{++calls}")).AsTask();

        await call.Should().ThrowAsync<IOException>().WithMessage($"{1 + retries}");
        calls.Should().Be(1 + retries);
        _time.Waits.Should().HaveCount(retries);
        (before - budget.Tokens).Should().Be(retries, "a retry that is not made takes nothing from the budget");
    }

    [Fact]
    public async Task A_result_comes_out_at_once_too_when_its_retry_does_not_fit()
    {
        RetryPolicy policy = Policy(o =>
        {
            o.RetryOn<int>(_ => true);
            o.TimeLeft = () => TimeSpan.FromMilliseconds(100);
        });

        int result = await policy.ExecuteAsync((attempt, _) => new ValueTask<int>(attempt.Number));

        result.Should().Be(1);
        _time.Waits.Should().BeEmpty();
    }

    [Fact]
    public async Task A_hint_that_does_not_fit_the_deadline_is_not_waited_for()
    {
        int calls = 0;
        RetryPolicy policy = Policy(o =>
        {
            o.DelayHint = _ => TimeSpan.FromSeconds(5);
            o.TimeLeft = () => TimeSpan.FromSeconds(5);
        });

        Func<Task> call = () => policy.ExecuteAsync<int>(_ => throw new IOException($"{++calls}")).AsTask();

        await call.Should().ThrowAsync<IOException>();
        calls.Should().Be(1);
    }

    [Theory]
    [InlineData(null, 10_000, 3)]
    [InlineData(5, 10_000, 5)]
    [InlineData(1, 10_000, 1)]
    [InlineData(5, 100, 1)]
    public async Task A_call_may_bring_its_own_limits_in_place_of_the_policys(int? maxAttempts, int leftMilliseconds, int attempts)
    {
        RetryPolicy policy = Policy(o =>
        {
            o.RetryOn<int>(_ => true);
            o.TimeLeft = () => TimeSpan.Zero;
        });

        int result = await policy.ExecuteAsync(
            static (_, attempt, _) => new ValueTask<int>(attempt.Number),
            leftMilliseconds, static left => TimeSpan.FromMilliseconds(left), maxAttempts, CancellationToken.None);

        result.Should().Be(attempts);
    }

    [Fact]
    public async Task A_time_left_of_the_call_that_throws_is_none_and_attempts_out_of_range_are_an_argument_error()
    {
        RetryPolicy policy = Policy(o => o.RetryOn<int>(_ => true));

        int result = await policy.ExecuteAsync(
            static (_, attempt, _) => new ValueTask<int>(attempt.Number), 0, static _ => throw new InvalidOperationException(), 2, CancellationToken.None);
        Action none = () => _ = policy.ExecuteAsync(static (_, _, _) => new ValueTask<int>(0), 0, static _ => null, 0, CancellationToken.None);
        Action many = () => _ = policy.ExecuteAsync(static (_, _, _) => new ValueTask<int>(0), 0, static _ => null, 101, CancellationToken.None);

        result.Should().Be(2);
        none.Should().Throw<ArgumentOutOfRangeException>();
        many.Should().Throw<ArgumentOutOfRangeException>();
    }

    [Fact]
    public async Task The_time_left_is_asked_before_each_wait_and_not_before()
    {
        int asked = 0;
        RetryPolicy policy = Policy(o => o.TimeLeft = () =>
        {
            asked++;
            return null;
        });
        await policy.ExecuteAsync(_ => new ValueTask<int>(1));
        int afterSuccess = asked;

        await ((Func<Task>)(() => policy.ExecuteAsync<int>(_ => throw new IOException()).AsTask())).Should().ThrowAsync<IOException>();

        afterSuccess.Should().Be(0);
        asked.Should().Be(2, "there were two waits");
    }

    [Fact]
    public async Task A_deadline_missed_by_a_millisecond_is_not_read_as_none()
    {
        int calls = 0;
        RetryPolicy policy = Policy(o => o.TimeLeft = () => TimeSpan.FromMilliseconds(-1));

        Func<Task> call = () => policy.ExecuteAsync<int>(_ => throw new IOException($"{++calls}")).AsTask();

        await call.Should().ThrowAsync<IOException>().WithMessage("1");
    }

    [Fact]
    public async Task A_base_delay_of_zero_never_waits_however_many_attempts()
    {
        RetryPolicy policy = Policy(o => (o.BaseDelay, o.MaxAttempts, o.Jitter, o.Budget) = (TimeSpan.Zero, 100, RetryJitter.None, RetryBudget.Unlimited));

        await FluentActions.Awaiting(() => policy.ExecuteAsync<int>(_ => throw new IOException()).AsTask()).Should().ThrowAsync<IOException>();

        _time.Waits.Should().BeEmpty();
    }

    [Fact]
    public async Task A_time_left_that_throws_is_no_deadline_and_is_logged()
    {
        await FailTwice(o => o.TimeLeft = () => throw new InvalidOperationException("bug"));

        _time.Waits.Should().HaveCount(2);
        _log.Entries.Should().Contain(entry => entry.Message == "Retry policy 'test': TimeLeft threw; no deadline is assumed.");
    }

    [Fact]
    public async Task Cancelling_ends_the_wait_at_once_with_the_callers_token()
    {
        var time = new FakeTimeProvider();
        using var source = new CancellationTokenSource();
        int calls = 0;
        var policy = new RetryPolicy(new RetryPolicyOptions { Jitter = RetryJitter.None }, time);

        Task task = policy.ExecuteAsync<int>(_ => throw new IOException($"{++calls}"), source.Token).AsTask();
        bool waiting = !task.IsCompleted;
        source.Cancel();

        OperationCanceledException caught = (await ((Func<Task>)(() => task)).Should().ThrowAsync<OperationCanceledException>()).Which;
        waiting.Should().BeTrue();
        caught.CancellationToken.Should().Be(source.Token);
        caught.InnerException.Should().BeOfType<IOException>("the last failure is not lost");
        task.IsCanceled.Should().BeTrue();
        calls.Should().Be(1);
    }

    [Fact]
    public async Task The_wait_lasts_as_long_as_the_backoff_says()
    {
        var time = new FakeTimeProvider();
        var second = new TaskCompletionSource();
        var policy = new RetryPolicy(new RetryPolicyOptions { Jitter = RetryJitter.None }, time);

        Task task = policy.ExecuteAsync((attempt, _) =>
        {
            if (attempt.Number == 1)
            {
                throw new IOException();
            }

            second.SetResult();
            return ValueTask.CompletedTask;
        }).AsTask();
        time.Advance(TimeSpan.FromMilliseconds(199));
        bool early = second.Task.IsCompleted;
        time.Advance(TimeSpan.FromMilliseconds(1));
        await task;

        early.Should().BeFalse();
        second.Task.IsCompleted.Should().BeTrue();
    }

    [Fact]
    public async Task Once_the_token_is_cancelled_a_failure_comes_out_without_a_retry()
    {
        using var source = new CancellationTokenSource();
        int calls = 0;
        var budget = new RetryBudget(new RetryBudgetOptions());
        RetryPolicy policy = Policy(o => o.Budget = budget);

        Func<Task> call = () => policy.ExecuteAsync<int>(
            _ =>
            {
                source.Cancel();
                throw new IOException($"{++calls}");
            },
            source.Token).AsTask();

        await call.Should().ThrowAsync<IOException>();
        calls.Should().Be(1);
        _time.Waits.Should().BeEmpty();
        budget.Tokens.Should().Be(10, "a cancelled call says nothing about the other side");
    }

    [Fact]
    public async Task Once_the_token_is_cancelled_should_retry_is_not_asked()
    {
        using var source = new CancellationTokenSource();
        bool asked = false;
        RetryPolicy policy = Policy(o => o.ShouldRetry = _ => asked = true);

        Func<Task> call = () => policy.ExecuteAsync(
            async token =>
            {
                await source.CancelAsync();
                token.ThrowIfCancellationRequested();
            },
            source.Token).AsTask();

        (await call.Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(source.Token);
        asked.Should().BeFalse();
    }

    [Fact]
    public async Task Once_the_token_is_cancelled_a_matched_result_comes_out()
    {
        using var source = new CancellationTokenSource();
        RetryPolicy policy = Policy(o => o.RetryOn<int>(_ => true));

        int result = await policy.ExecuteAsync(
            (attempt, _) =>
            {
                source.Cancel();
                return new ValueTask<int>(attempt.Number);
            },
            source.Token);

        result.Should().Be(1);
    }

    [Fact]
    public async Task A_success_after_cancellation_is_a_success()
    {
        using var source = new CancellationTokenSource();

        int result = await Policy().ExecuteAsync(
            async _ =>
            {
                await source.CancelAsync();
                return 5;
            },
            source.Token);

        result.Should().Be(5);
    }

    [Fact]
    public async Task A_cancellation_that_is_not_the_callers_is_a_failure_like_any_other()
    {
        int calls = 0;
        using var inner = new CancellationTokenSource();
        await inner.CancelAsync();

        int result = await Policy().ExecuteAsync(_ => ++calls == 1 ? throw new OperationCanceledException(inner.Token) : new ValueTask<int>(calls));

        result.Should().Be(2);
    }

    [Fact]
    public async Task A_token_cancelled_beforehand_calls_nothing_and_counts_nothing()
    {
        int calls = 0;
        var budget = new RetryBudget(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio, MinRetriesPerSecond = 0, RetryRatio = 1 }, _time);

        ValueTask<int> task = Policy(o => o.Budget = budget).ExecuteAsync(_ => new ValueTask<int>(++calls), new CancellationToken(canceled: true));

        task.IsCanceled.Should().BeTrue();
        await ((Func<Task>)(() => task.AsTask())).Should().ThrowAsync<OperationCanceledException>();
        calls.Should().Be(0);
        budget.Tokens.Should().Be(0);
    }

    [Fact]
    public async Task A_token_cancelled_without_a_wait_is_seen_before_the_next_attempt()
    {
        using var source = new CancellationTokenSource();
        int calls = 0;
        RetryPolicy policy = Policy(o =>
        {
            o.BaseDelay = TimeSpan.Zero;
            o.TimeLeft = () =>
            {
                source.Cancel();
                return null;
            };
        });

        Func<Task> call = () => policy.ExecuteAsync<int>(_ => throw new IOException($"{++calls}"), source.Token).AsTask();

        (await call.Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(source.Token);
        calls.Should().Be(1);
    }

    private async Task FailTwice(Action<RetryPolicyOptions> configure)
    {
        int result = await Policy(configure).ExecuteAsync(
            (attempt, _) => attempt.Number < 3 ? throw new IOException() : new ValueTask<int>(attempt.Number));

        result.Should().Be(3);
    }

    private RetryPolicy Policy(Action<RetryPolicyOptions>? configure = null)
    {
        var options = new RetryPolicyOptions { Name = "test", Jitter = RetryJitter.None };
        configure?.Invoke(options);
        return new RetryPolicy(options, _time, _log);
    }
}
