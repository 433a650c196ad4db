using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.RetryPolicies.Tests;

[Collection("telemetry")]
public sealed class TelemetryTests
{
    private readonly InstantTime _time = new();
    private readonly LogList _log = new();

    [Fact]
    public async Task A_logger_or_listener_that_throws_replaces_no_outcome()
    {
        string name = Guid.NewGuid().ToString();
        using var listener = new MeterListener { InstrumentPublished = (instrument, self) => Enable(instrument, self) };
        listener.SetMeasurementEventCallback<long>((_, _, tags, _) => ThrowFor(tags, name));
        listener.SetMeasurementEventCallback<int>((_, _, tags, _) => ThrowFor(tags, name));
        listener.Start();
        var policy = new RetryPolicy(new RetryPolicyOptions { Name = name, BaseDelay = TimeSpan.Zero }, logger: new ThrowingLogger());

        int result = await policy.ExecuteAsync(_ => new ValueTask<int>(7));
        Func<Task> call = () => policy.ExecuteAsync<int>(_ => throw new IOException("real")).AsTask();

        result.Should().Be(7);
        await call.Should().ThrowAsync<IOException>().WithMessage("real");

        static void Enable(Instrument instrument, MeterListener self)
        {
            if (instrument.Meter.Name == "Backend.Toolkit.RetryPolicies")
            {
                self.EnableMeasurementEvents(instrument);
            }
        }

        static void ThrowFor(ReadOnlySpan<KeyValuePair<string, object?>> tags, string name)
        {
            if (tags[0].Value is string value && value == name)
            {
                throw new InvalidOperationException("listener");
            }
        }
    }

    [Fact]
    public async Task A_first_attempt_that_succeeds_is_one_attempt_and_no_retry()
    {
        using var metrics = new Metrics("first");

        await Policy("first").ExecuteAsync(_ => new ValueTask<int>(1));

        metrics.Seen.Should().Equal(("backend.toolkit.retry.attempts", 1, null));
    }

    [Fact]
    public async Task A_success_after_two_retries_is_three_attempts_and_two_retries()
    {
        using var metrics = new Metrics("third");

        await Policy("third").ExecuteAsync((attempt, _) => attempt.Number < 3 ? throw new IOException() : new ValueTask<int>(1));

        metrics.Seen.Should().Equal(
            ("backend.toolkit.retry.retries", 1, null), ("backend.toolkit.retry.retries", 1, null), ("backend.toolkit.retry.attempts", 3, null));
    }

    [Fact]
    public async Task Giving_up_is_counted_with_its_own_reason_and_logged_with_the_attempts()
    {
        using var source = new CancellationTokenSource();

        (await Reason("a", _ => { })).Should().Be("attempts");
        (await Reason("b", o => o.Budget = new RetryBudget(new RetryBudgetOptions { MaxTokens = 1 }))).Should().Be("budget");
        (await Reason("c", o => o.Budget = new RetryBudget(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio, RetryRatio = 0, MinRetriesPerSecond = 0 }))).Should().Be("budget");
        (await Reason("d", o => o.TimeLeft = () => TimeSpan.Zero)).Should().Be("deadline");
        (await Reason("e", o => o.DelayHint = _ => Timeout.InfiniteTimeSpan)).Should().Be("hint");
        (await Reason("f", o => o.ShouldRetry = _ => false)).Should().Be("not_retryable");
        (await Reason("g", o => o.TimeLeft = () => Cancel(source), source.Token)).Should().Be("cancelled");
        _log.Entries.Where(entry => entry.Level == LogLevel.Debug).Select(entry => entry.Message).Should().Contain(
        [
            "Retry policy 'a' gave up at attempt 3: OutOfAttempts.",
            "Retry policy 'b' gave up at attempt 1: BudgetExhausted.",
            "Retry policy 'd' gave up at attempt 1: DeadlineTooNear.",
            "Retry policy 'e' gave up at attempt 1: ToldNever.",
            "Retry policy 'f' gave up at attempt 1: NotRetryable.",
            "Retry policy 'g' gave up at attempt 1: Cancelled.",
        ]);
    }

    [Fact]
    public async Task An_exhausted_budget_is_one_warning_per_episode()
    {
        var budget = new RetryBudget(new RetryBudgetOptions { Name = "shared" });
        RetryPolicy policy = Policy("many", o => o.Budget = budget);
        for (int i = 0; i < 20; i++)
        {
            await Fail(policy);
        }

        int first = Warnings();
        for (int i = 0; i < 100; i++)
        {
            await policy.ExecuteAsync(_ => new ValueTask<int>(1));
        }

        for (int i = 0; i < 20; i++)
        {
            await Fail(policy);
        }

        first.Should().Be(1);
        Warnings().Should().Be(2);
        _log.Entries.First(entry => entry.Level == LogLevel.Warning).Message.Should().StartWith("Retry budget 'shared' is exhausted (seen by retry policy 'many')");

        int Warnings() => _log.Entries.Count(entry => entry.Level == LogLevel.Warning);
    }

    [Fact]
    public async Task Named_budgets_report_what_is_left_and_a_policys_own_budget_has_its_name()
    {
        using var shared = new Metrics("gauge-shared");
        using var own = new Metrics("gauge-own");
        using var none = new Metrics("");
        var budget = new RetryBudget(new RetryBudgetOptions { Name = "gauge-shared" });
        var unnamed = new RetryBudget(new RetryBudgetOptions());
        RetryPolicy policy = Policy("gauge-own", o => o.MaxAttempts = 1);
        budget.OnFailure();
        await Fail(policy);
        await Fail(policy);

        shared.Observe();
        own.Observe();
        none.Observe();

        shared.Seen.Should().Contain(("backend.toolkit.retry.budget.tokens", 9, null));
        own.Seen.Should().Contain(("backend.toolkit.retry.budget.tokens", 8, null));
        none.Seen.Should().BeEmpty();
        GC.KeepAlive(budget);
        GC.KeepAlive(unnamed);
        GC.KeepAlive(policy);
    }

    [Fact]
    public void A_dropped_budget_is_no_longer_reported()
    {
        MakeAndDrop();
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        using var metrics = new Metrics("dropped");

        metrics.Observe();

        metrics.Seen.Should().BeEmpty();

        [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
        static void MakeAndDrop() => _ = new RetryBudget(new RetryBudgetOptions { Name = "dropped" });
    }

    [Fact]
    public async Task With_nobody_listening_no_clock_is_read()
    {
        var time = new CountingTime();
        var policy = new RetryPolicy(
            new RetryPolicyOptions { Name = "quiet", BaseDelay = TimeSpan.Zero }.RetryOn<int>(result => result < 0), time);

        await policy.ExecuteAsync(_ => new ValueTask<int>(1));
        await policy.ExecuteAsync((attempt, _) => new ValueTask<int>(attempt.Number - 3));
        await Fail(policy);

        time.Reads.Should().Be(0);
    }

    [Fact]
    public void With_nobody_listening_no_tags_are_built_on_any_path()
    {
        RetryPolicy[] policies =
        [
            Quiet(o => { }),
            Quiet(o => o.RetryOn<int>(_ => true)),
            Quiet(o => o.RetryOn<int>(_ => true).DelayHintFor<int>(_ => Timeout.InfiniteTimeSpan)),
            Quiet(o => o.RetryOn<int>(_ => true).TimeLeft = () => TimeSpan.Zero),
        ];

        long allocated = Allocations.Of(() =>
        {
            foreach (RetryPolicy policy in policies)
            {
                _ = policy.ExecuteAsync(static (state, _) => new ValueTask<int>(state), 1).Result;
            }
        });

        allocated.Should().Be(0);
    }

    [Theory]
    [InlineData(RetryBudgetRule.Tokens)]
    [InlineData(RetryBudgetRule.Ratio)]
    public void A_first_attempt_that_succeeds_allocates_nothing(RetryBudgetRule rule)
    {
        var policy = new RetryPolicy(new RetryPolicyOptions { Name = "hot", Budget = new RetryBudget(new RetryBudgetOptions { Rule = rule }) });

        long plain = Allocations.Of(() => _ = policy.ExecuteAsync(static (state, _) => new ValueTask<string>(state), "").Result);
        long attempt = Allocations.Of(() => _ = policy.ExecuteAsync(static (state, _, _) => new ValueTask<string>(state), "").Result);
        long stateless = Allocations.Of(() => _ = policy.ExecuteAsync(static _ => new ValueTask<int>(1)).Result);
        long nothing = Allocations.Of(() => policy.ExecuteAsync(static _ => ValueTask.CompletedTask).GetAwaiter().GetResult());
        var judging = new RetryPolicy(new RetryPolicyOptions().RetryOn<int>(static result => result == 0));
        long judged = Allocations.Of(() => _ = judging.ExecuteAsync(static (state, _) => new ValueTask<int>(state), 1).Result);
        long task = Allocations.Of(() => policy.ExecuteAsync(static _ => Task.CompletedTask).GetAwaiter().GetResult());

        new[] { plain, attempt, stateless, nothing, judged, task }.Should().Equal(0, 0, 0, 0, 0, 0);
    }

    private RetryPolicy Quiet(Action<RetryPolicyOptions> configure)
    {
        var options = new RetryPolicyOptions { Name = "quiet", BaseDelay = TimeSpan.Zero };
        configure(options);
        return new RetryPolicy(options, _time);
    }

    private RetryPolicy Policy(string name, Action<RetryPolicyOptions>? configure = null)
    {
        var options = new RetryPolicyOptions { Name = name };
        configure?.Invoke(options);
        return new RetryPolicy(options, _time, _log);
    }

    private async Task<string?> Reason(string name, Action<RetryPolicyOptions> configure, CancellationToken cancellationToken = default)
    {
        using var metrics = new Metrics(name);
        await Fail(Policy(name, configure), cancellationToken);
        return metrics.Seen.Single(seen => seen.Instrument == "backend.toolkit.retry.given_up").Reason;
    }

    private static TimeSpan? Cancel(CancellationTokenSource source)
    {
        source.Cancel();
        return null;
    }

    private static async Task Fail(RetryPolicy policy, CancellationToken cancellationToken = default)
    {
        Func<Task> call = () => policy.ExecuteAsync<int>(_ => throw new IOException(), cancellationToken).AsTask();
        await call.Should().ThrowAsync<Exception>();
    }
}

internal static class Allocations
{
    /// <summary>Bytes allocated by the thread in 1 000 calls, once the code is warm.</summary>
    public static long Of(Action action)
    {
        for (int i = 0; i < 100; i++)
        {
            action();
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1_000; i++)
        {
            action();
        }

        return GC.GetAllocatedBytesForCurrentThread() - before;
    }
}
