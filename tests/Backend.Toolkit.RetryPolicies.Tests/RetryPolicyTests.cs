using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RetryPolicies.Tests;

public sealed class RetryPolicyTests
{
    private readonly InstantTime _time = new();

    [Fact]
    public async Task A_first_attempt_that_succeeds_is_the_only_one()
    {
        int calls = 0;

        int result = await Policy().ExecuteAsync(_ => new ValueTask<int>(++calls), default);

        result.Should().Be(1);
        calls.Should().Be(1);
        _time.Waits.Should().BeEmpty();
    }

    [Fact]
    public async Task A_failure_is_retried_until_an_attempt_succeeds()
    {
        int calls = 0;

        int result = await Policy().ExecuteAsync(_ => ++calls < 3 ? throw new IOException() : new ValueTask<int>(calls));

        result.Should().Be(3);
    }

    [Fact]
    public async Task After_the_last_attempt_the_last_exception_comes_out_as_itself_with_its_stack_and_nothing_added()
    {
        int calls = 0;
        List<Exception> thrown = [];

        Func<Task> call = () => Policy().ExecuteAsync(async _ =>
        {
            await Task.Yield();
            calls++;
            FailingMethod(thrown);
        }).AsTask();

        IOException caught = (await call.Should().ThrowAsync<IOException>()).Which;
        calls.Should().Be(3);
        caught.Should().BeSameAs(thrown[2]);
        caught.StackTrace.Should().Contain(nameof(FailingMethod));
        caught.Data.Count.Should().Be(0);
        caught.InnerException.Should().BeNull();
    }

    [Fact]
    public async Task The_stack_of_an_exception_thrown_before_the_first_await_is_kept()
    {
        Func<Task> call = () => Policy(o => o.MaxAttempts = 1).ExecuteAsync(
            static (thrown, _) =>
            {
                FailingMethod(thrown);
                return new ValueTask<int>(1);
            },
            new List<Exception>()).AsTask();

        (await call.Should().ThrowAsync<IOException>()).Which.StackTrace.Should().Contain(nameof(FailingMethod));
    }

    [Fact]
    public async Task Argument_errors_are_not_retried_by_default()
    {
        int calls = 0;

        Func<Task> call = () => Policy().ExecuteAsync<int>(_ => throw new ArgumentOutOfRangeException($"{++calls}")).AsTask();

        await call.Should().ThrowAsync<ArgumentOutOfRangeException>();
        calls.Should().Be(1);
    }

    [Fact]
    public async Task Should_retry_decides_what_is_retried()
    {
        int calls = 0;
        RetryPolicy policy = Policy(o => o.ShouldRetry = exception => exception is ArgumentException);

        Func<Task> other = () => policy.ExecuteAsync<int>(_ => throw new IOException($"{++calls}")).AsTask();
        Func<Task> matching = () => policy.ExecuteAsync<int>(_ => throw new ArgumentException($"{++calls}")).AsTask();

        await other.Should().ThrowAsync<IOException>();
        calls.Should().Be(1);
        await matching.Should().ThrowAsync<ArgumentException>();
        calls.Should().Be(4);
    }

    [Fact]
    public async Task A_matched_result_is_retried_and_the_last_one_comes_out()
    {
        int calls = 0;
        RetryPolicy policy = Policy(o => o.RetryOn<int>(result => result < 100));

        int result = await policy.ExecuteAsync(_ => new ValueTask<int>(++calls));

        result.Should().Be(3);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_result_is_judged_once_whether_its_attempt_ended_at_once_or_later(bool later)
    {
        List<int> judged = [];
        int calls = 0;
        RetryPolicy policy = Policy(o => o.RetryOn<int>(result =>
        {
            judged.Add(result);
            return result < 3;
        }));

        await policy.ExecuteAsync(async _ =>
        {
            if (later)
            {
                await Task.Yield();
            }

            return ++calls;
        });

        judged.Should().Equal(1, 2, 3);
    }

    [Fact]
    public async Task A_matched_result_is_retried_until_one_does_not_match()
    {
        int calls = 0;
        RetryPolicy policy = Policy(o => o.RetryOn<int>(result => result < 2));

        int result = await policy.ExecuteAsync(_ => new ValueTask<int>(++calls));

        result.Should().Be(2);
    }

    [Fact]
    public async Task Result_predicates_hold_for_exactly_their_type_whatever_variance_allows()
    {
        int strings = 0;
        int objects = 0;
        Func<object, bool> all = _ => true;
        RetryPolicy policy = Policy(o => o.RetryOn<string>(all));

        await policy.ExecuteAsync(_ => new ValueTask<string>($"{++strings}"));
        await policy.ExecuteAsync(_ => new ValueTask<object>(++objects));

        strings.Should().Be(3);
        objects.Should().Be(1);
    }

    [Fact]
    public async Task Several_predicates_for_one_type_are_all_asked()
    {
        int calls = 0;
        RetryPolicy policy = Policy(o => o.RetryOn<int>(result => result == 1).RetryOn<int>(result => result == 2).RetryOn<string>(_ => true));

        int result = await policy.ExecuteAsync(_ => new ValueTask<int>(++calls));

        result.Should().Be(3);
    }

    [Fact]
    public async Task A_predicate_that_throws_does_not_hide_the_outcome_and_leaves_the_budget_alone()
    {
        var log = new LogList();
        var budget = new RetryBudget(new RetryBudgetOptions());
        int calls = 0;
        RetryPolicy policy = Policy(
            o =>
            {
                o.Budget = budget;
                o.ShouldRetry = _ => throw new InvalidOperationException("bug");
                o.RetryOn<int>(_ => throw new InvalidOperationException("bug"));
            },
            log);

        Func<Task> failing = () => policy.ExecuteAsync<int>(_ => throw new IOException($"{++calls}")).AsTask();
        await failing.Should().ThrowAsync<IOException>();
        int result = await policy.ExecuteAsync(_ => new ValueTask<int>(++calls));

        result.Should().Be(2);
        budget.Tokens.Should().Be(10);
        log.Entries.Where(entry => entry.Level == LogLevel.Error).Select(entry => entry.Message).Should().Equal(
            "Retry policy 'test': ShouldRetry threw; the call is not retried.",
            "Retry policy 'test': a predicate given to RetryOn threw; the call is not retried.");
    }

    [Fact]
    public async Task A_result_whose_predicate_throws_gives_no_token_back()
    {
        var budget = new RetryBudget(new RetryBudgetOptions());
        budget.OnFailure();
        RetryPolicy policy = Policy(o =>
        {
            o.Budget = budget;
            o.RetryOn<int>(_ => throw new InvalidOperationException("bug"));
        });

        await policy.ExecuteAsync(_ => new ValueTask<int>(1));

        budget.Tokens.Should().Be(9);
    }

    [Fact]
    public async Task The_attempt_is_visible_to_the_action()
    {
        List<(int, RetryOutcome, TimeSpan)> seen = [];
        RetryPolicy policy = Policy(o =>
        {
            o.Jitter = RetryJitter.None;
            o.RetryOn<int>(result => result == 0);
        });

        await policy.ExecuteAsync((attempt, _) =>
        {
            seen.Add((attempt.Number, attempt.PreviousOutcome, attempt.Delay));
            return attempt.Number == 1 ? throw new IOException() : new ValueTask<int>(attempt.Number == 2 ? 0 : 1);
        });

        seen.Should().Equal(
            (1, RetryOutcome.None, TimeSpan.Zero),
            (2, RetryOutcome.Exception, TimeSpan.FromMilliseconds(200)),
            (3, RetryOutcome.Result, TimeSpan.FromMilliseconds(400)));
        _time.Waits.Should().Equal(TimeSpan.FromMilliseconds(200), TimeSpan.FromMilliseconds(400));
    }

    [Fact]
    public async Task Every_overload_retries_and_hands_on_state_and_token()
    {
        using var source = new CancellationTokenSource();
        CancellationToken token = source.Token;
        RetryPolicy policy = Policy(o => o.Budget = RetryBudget.Unlimited);
        int calls = 0;
        int Fail(CancellationToken given, string state = "state")
        {
            given.Should().Be(token);
            state.Should().Be("state");
            return ++calls % 3 == 0 ? calls : throw new IOException();
        }

        (await policy.ExecuteAsync((state, ct) => new ValueTask<int>(Fail(ct, state)), "state", token)).Should().Be(3);
        (await policy.ExecuteAsync((state, ct) => Task.FromResult(Fail(ct, state)), "state", token)).Should().Be(6);
        (await policy.ExecuteAsync(ct => new ValueTask<int>(Fail(ct)), token)).Should().Be(9);
        (await policy.ExecuteAsync(ct => Task.FromResult(Fail(ct)), token)).Should().Be(12);
        await policy.ExecuteAsync(ct => Fail(ct) > 0 ? ValueTask.CompletedTask : default, token);
        await policy.ExecuteAsync(ct => Fail(ct) > 0 ? Task.CompletedTask : Task.CompletedTask, token);
        (await policy.ExecuteAsync((state, attempt, ct) => new ValueTask<int>(Fail(ct, state) + attempt.Number), "state", token)).Should().Be(24);
        (await policy.ExecuteAsync((state, attempt, ct) => Task.FromResult(Fail(ct, state) + attempt.Number), "state", token)).Should().Be(27);
        (await policy.ExecuteAsync((attempt, ct) => new ValueTask<int>(Fail(ct) + attempt.Number), token)).Should().Be(30);
        (await policy.ExecuteAsync((attempt, ct) => Task.FromResult(Fail(ct) + attempt.Number), token)).Should().Be(33);
        await policy.ExecuteAsync((attempt, ct) => Fail(ct) > attempt.Number ? ValueTask.CompletedTask : default, token);
        await policy.ExecuteAsync((attempt, ct) => Fail(ct) > attempt.Number ? Task.CompletedTask : Task.CompletedTask, token);
        (await policy.ExecuteAsync(async ct => await Task.FromResult(Fail(ct)), token)).Should().Be(39);
        (await policy.ExecuteAsync(async (_, ct) => await Task.FromResult(Fail(ct)), token)).Should().Be(42);
        await policy.ExecuteAsync(async ct => { await Task.Yield(); Fail(ct); }, token);
        await policy.ExecuteAsync(async (_, ct) => { await Task.Yield(); Fail(ct); }, token);

        calls.Should().Be(48);
    }

    [Fact]
    public void Only_a_null_action_throws_directly()
    {
        RetryPolicy policy = Policy();

        ((Action)(() => _ = policy.ExecuteAsync((Func<int, CancellationToken, ValueTask<int>>)null!, 1))).Should().Throw<ArgumentNullException>();
        ((Action)(() => _ = policy.ExecuteAsync((Func<int, CancellationToken, Task<int>>)null!, 1))).Should().Throw<ArgumentNullException>();
        ((Action)(() => _ = policy.ExecuteAsync((Func<CancellationToken, ValueTask<int>>)null!))).Should().Throw<ArgumentNullException>();
        ((Action)(() => _ = policy.ExecuteAsync((Func<CancellationToken, Task<int>>)null!))).Should().Throw<ArgumentNullException>();
        ((Action)(() => _ = policy.ExecuteAsync((Func<CancellationToken, ValueTask>)null!))).Should().Throw<ArgumentNullException>();
        ((Action)(() => _ = policy.ExecuteAsync((Func<CancellationToken, Task>)null!))).Should().Throw<ArgumentNullException>();
        ((Action)(() => _ = policy.ExecuteAsync((Func<int, RetryAttempt, CancellationToken, ValueTask<int>>)null!, 1))).Should().Throw<ArgumentNullException>();
        ((Action)(() => _ = policy.ExecuteAsync((Func<int, RetryAttempt, CancellationToken, Task<int>>)null!, 1))).Should().Throw<ArgumentNullException>();
        ((Action)(() => _ = policy.ExecuteAsync((Func<RetryAttempt, CancellationToken, ValueTask<int>>)null!))).Should().Throw<ArgumentNullException>();
        ((Action)(() => _ = policy.ExecuteAsync((Func<RetryAttempt, CancellationToken, Task<int>>)null!))).Should().Throw<ArgumentNullException>();
        ((Action)(() => _ = policy.ExecuteAsync((Func<RetryAttempt, CancellationToken, ValueTask>)null!))).Should().Throw<ArgumentNullException>();
        ((Action)(() => _ = policy.ExecuteAsync((Func<RetryAttempt, CancellationToken, Task>)null!))).Should().Throw<ArgumentNullException>();
    }

    [Fact]
    public async Task An_action_that_throws_at_once_comes_out_of_the_task()
    {
        ValueTask<int> task = Policy().ExecuteAsync<int>(_ => throw new IOException());

        Func<Task> call = () => task.AsTask();

        await call.Should().ThrowAsync<IOException>();
    }

    [Fact]
    public async Task An_action_that_returns_a_null_task_is_an_argument_error_of_the_task()
    {
        int calls = 0;
        ValueTask task = Policy().ExecuteAsync(_ =>
        {
            calls++;
            return (Task)null!;
        });
        ValueTask<int> withResult = Policy().ExecuteAsync(_ =>
        {
            calls++;
            return (Task<int>)null!;
        });

        await ((Func<Task>)(() => task.AsTask())).Should().ThrowAsync<ArgumentNullException>();
        await ((Func<Task>)(() => withResult.AsTask())).Should().ThrowAsync<ArgumentNullException>();

        calls.Should().Be(2);
    }

    [Fact]
    public async Task Mutating_the_options_afterwards_changes_nothing()
    {
        int calls = 0;
        var options = new RetryPolicyOptions { BaseDelay = TimeSpan.Zero };
        var policy = new RetryPolicy(options, _time);

        options.MaxAttempts = 1;
        options.RetryOn<int>(_ => true);
        await policy.ExecuteAsync(_ => ++calls < 3 ? throw new IOException() : new ValueTask<int>(calls));
        await policy.ExecuteAsync(_ => new ValueTask<int>(++calls));

        calls.Should().Be(4);
    }

    [Fact]
    public async Task Updated_options_hold_from_the_next_call_on_and_invalid_ones_never()
    {
        int calls = 0;
        RetryPolicy policy = Policy();
        Func<Task> call = () => policy.ExecuteAsync<int>(_ => throw new IOException($"{++calls}")).AsTask();

        policy.Update(new RetryPolicyOptions { MaxAttempts = 2, BaseDelay = TimeSpan.Zero });
        Action invalid = () => policy.Update(new RetryPolicyOptions { MaxAttempts = 0 });

        invalid.Should().Throw<Microsoft.Extensions.Options.OptionsValidationException>();
        await call.Should().ThrowAsync<IOException>();
        calls.Should().Be(2);
    }

    [Fact]
    public async Task An_update_keeps_what_the_policys_own_budget_has_counted()
    {
        int calls = 0;
        RetryPolicy policy = Policy(o => o.MaxAttempts = 6);
        Func<Task> call = () => policy.ExecuteAsync<int>(_ => throw new IOException($"{++calls}")).AsTask();
        await call.Should().ThrowAsync<IOException>();
        int before = calls;

        policy.Update(new RetryPolicyOptions { MaxAttempts = 6, BaseDelay = TimeSpan.Zero });
        await call.Should().ThrowAsync<IOException>();

        before.Should().Be(5, "10 tokens throttle after 5 failures");
        calls.Should().Be(6, "the budget is still exhausted");
    }

    [Fact]
    public async Task Nested_policies_are_plain_lambdas()
    {
        int calls = 0;
        RetryPolicy outer = Policy(o => o.Budget = RetryBudget.Unlimited);
        RetryPolicy inner = Policy(o => o.Budget = RetryBudget.Unlimited);

        Func<Task> call = () => outer.ExecuteAsync(ct => inner.ExecuteAsync<int>(_ => throw new IOException($"{++calls}"), ct)).AsTask();

        await call.Should().ThrowAsync<IOException>();
        calls.Should().Be(9);
    }

    private RetryPolicy Policy(Action<RetryPolicyOptions>? configure = null, LogList? log = null)
    {
        var options = new RetryPolicyOptions { Name = "test" };
        configure?.Invoke(options);
        return new RetryPolicy(options, _time, log);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void FailingMethod(List<Exception> thrown)
    {
        var exception = new IOException($"failure {thrown.Count + 1}");
        thrown.Add(exception);
        throw exception;
    }
}
