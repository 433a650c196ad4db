using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Idempotency.Tests;

/// <summary>Heartbeats, lost leases, zombies, outages on the way and cancellation at every await.</summary>
public sealed class LeaseTests : Fixture
{
    private readonly TaskCompletionSource _gate = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private CancellationToken _token;
    private IdempotentOperation? _operation;

    /// <summary>A run that goes on until the gate opens, whatever its token says.</summary>
    private Task<Receipt> Running(IdempotentExecutor executor, bool obeys = false, CancellationToken token = default) => RunAsync(executor, token: token, within: async (operation, ct) =>
    {
        (_operation, _token) = (operation, ct);
        await (obeys ? _gate.Task.WaitAsync(ct) : _gate.Task);
    }).AsTask();

    [Fact]
    public async Task A_run_that_outlasts_its_lease_is_renewed_at_every_third_of_it()
    {
        IdempotentExecutor executor = Executor();
        Task<Receipt> run = Running(executor);

        for (int second = 1; second <= 300; second++)
        {
            Time.Advance(TimeSpan.FromSeconds(1));
            Store.Calls(Verb.Renew).Should().Be(second / 10);
        }

        IdempotencyException duplicate = await RefusalAsync(RunAsync(executor));
        _gate.SetResult();
        (await WithinAsync(run)).Number.Should().Be(1);
        duplicate.Error.Should().Be(IdempotencyError.InProgress);
        (await RunAsync(executor)).Number.Should().Be(1);
        Time.Advance(10 * Lease);
        Store.Calls(Verb.Renew).Should().Be(30, "a run that has ended has no heartbeat");
        _operation!.IsLeaseLost.Should().BeFalse();
    }

    [Fact]
    public async Task A_run_whose_key_was_taken_over_is_cancelled_and_its_late_result_is_not_stored()
    {
        IdempotentExecutor executor = Executor();
        Task<Receipt> zombie = Running(executor);
        IdempotencyClaim other = await TakeOverAsync();

        Time.Advance(TimeSpan.FromSeconds(10));
        bool cancelled = _token.IsCancellationRequested;
        await Store.Inner.CompleteAsync(other.Key, other.Fence, new IdempotencyOutcome(0, "{\"Number\":77,\"Text\":\"other\"}"u8.ToArray()), TimeSpan.FromHours(1));
        _gate.SetResult();

        IdempotencyException lost = await RefusalAsync(new ValueTask<Receipt>(zombie));
        cancelled.Should().BeTrue();
        lost.Error.Should().Be(IdempotencyError.LeaseLost);
        Store.Calls(Verb.Complete).Should().Be(0, "who knows that it is a zombie does not even ask");
        (await RunAsync(executor)).Number.Should().Be(77);
        Log.Entries.Should().ContainSingle(entry => entry.Id == 5).Which.Message.Should().Contain("belongs to another run");
    }

    [Fact]
    public async Task A_zombie_that_does_not_know_it_yet_is_fenced()
    {
        IdempotentExecutor executor = Executor();
        Task<Receipt> zombie = Running(executor);
        IdempotencyClaim other = await TakeOverAsync();

        _gate.SetResult();

        (await RefusalAsync(new ValueTask<Receipt>(zombie))).Error.Should().Be(IdempotencyError.LeaseLost);
        Store.Calls(Verb.Complete).Should().Be(1);
        (await Store.Inner.RenewAsync(other.Key, other.Fence, Lease)).Should().BeTrue("the other one still owns it");
    }

    [Fact]
    public async Task A_zombie_gives_nothing_back()
    {
        IdempotentExecutor executor = Executor();
        bool? abandoned = null;
        Task<Receipt> zombie = RunAsync(executor, within: async (operation, _) =>
        {
            await _gate.Task;
            abandoned = await operation.AbandonAsync(CancellationToken.None);
        }).AsTask();
        IdempotencyClaim other = await TakeOverAsync();

        _gate.SetResult();

        await WithinAsync(zombie);
        abandoned.Should().BeFalse();
        (await Store.Inner.RenewAsync(other.Key, other.Fence, Lease)).Should().BeTrue();
    }

    [Fact]
    public async Task An_action_that_obeys_its_token_tells_the_lost_lease_and_not_a_cancellation()
    {
        IdempotentExecutor executor = Executor();
        Task<Receipt> zombie = Running(executor, obeys: true);
        await TakeOverAsync();

        Time.Advance(TimeSpan.FromSeconds(10));

        IdempotencyException lost = await RefusalAsync(new ValueTask<Receipt>(WithinAsync(zombie)));
        lost.Error.Should().Be(IdempotencyError.LeaseLost);
        lost.InnerException.Should().BeAssignableTo<OperationCanceledException>();
    }

    [Fact]
    public async Task A_run_whose_renewals_fail_is_cancelled_when_its_lease_is_over_and_not_before()
    {
        IdempotentExecutor executor = Executor();
        Task<Receipt> run = Running(executor);
        Time.Advance(TimeSpan.FromSeconds(10));
        Store.Fail(Verb.Renew);

        var cancelled = new List<bool>();
        for (int i = 0; i < 3; i++)
        {
            Time.Advance(TimeSpan.FromSeconds(10));
            cancelled.Add(_token.IsCancellationRequested);
        }

        cancelled.Should().Equal(false, false, true);
        Store.Calls(Verb.Renew).Should().Be(3);
        _gate.SetResult();
        (await WithinAsync(run)).Number.Should().Be(1, "nobody took over, so the result is recorded rather than made again");
        (await RunAsync(executor)).Number.Should().Be(1);
    }

    [Fact]
    public async Task A_run_whose_renewal_hangs_is_cancelled_when_its_lease_is_over()
    {
        IdempotentExecutor executor = Executor();
        Store.Hang(Verb.Renew);
        Task<Receipt> run = Running(executor, obeys: true);

        Time.Advance(TimeSpan.FromSeconds(29));
        bool before = _token.IsCancellationRequested;
        Time.Advance(TimeSpan.FromSeconds(1));

        IdempotencyException lost = await RefusalAsync(new ValueTask<Receipt>(WithinAsync(run)));
        before.Should().BeFalse();
        lost.Error.Should().Be(IdempotencyError.LeaseLost);
        Store.Calls(Verb.Renew).Should().Be(1, "one renewal at a time");
        Log.Entries.Should().ContainSingle(entry => entry.Id == 5).Which.Message.Should().Contain("could not be asked");
    }

    [Fact]
    public async Task An_outage_of_one_heartbeat_costs_nothing()
    {
        IdempotentExecutor executor = Executor();
        Task<Receipt> run = Running(executor);
        Time.Advance(TimeSpan.FromSeconds(10));
        Store.Fail();
        Time.Advance(TimeSpan.FromSeconds(10));
        Store.Work();

        for (int i = 0; i < 10; i++)
        {
            Time.Advance(TimeSpan.FromSeconds(10));
        }

        _token.IsCancellationRequested.Should().BeFalse();
        _gate.SetResult();
        await WithinAsync(run);
        Log.Entries.Select(entry => entry.Id).Should().Equal([3, 4], "an outage is told once, and its end");
    }

    [Fact]
    public async Task A_process_that_was_stopped_past_its_lease_knows_when_it_wakes()
    {
        IdempotentExecutor executor = Executor();
        Task<Receipt> run = Running(executor);
        // All beats of the stop come at once, after it.
        Store.Fail(Verb.Renew);
        Time.Advance(10 * Lease);
        Store.Work();

        _token.IsCancellationRequested.Should().BeTrue();
        await TakeOverAsync(alreadyOver: true);
        _gate.SetResult();
        (await RefusalAsync(new ValueTask<Receipt>(WithinAsync(run)))).Error.Should().Be(IdempotencyError.LeaseLost);
    }

    [Fact]
    public async Task A_renewal_that_comes_after_the_completion_takes_nothing_from_it()
    {
        IdempotentExecutor executor = Executor();
        var replying = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task<Receipt> run = Running(executor);
        Store.After = (verb, _) => verb == Verb.Complete ? replying.Task : Task.CompletedTask;
        _gate.SetResult();
        SpinWait.SpinUntil(() => Store.Calls(Verb.Complete) == 1, TimeSpan.FromSeconds(30)).Should().BeTrue();

        Time.Advance(TimeSpan.FromSeconds(10));
        SpinWait.SpinUntil(() => Store.Calls(Verb.Renew) == 1, TimeSpan.FromSeconds(30)).Should().BeTrue();
        replying.SetResult();

        (await WithinAsync(run)).Number.Should().Be(1);
        _operation!.IsLeaseLost.Should().BeFalse();
    }

    [Fact]
    public async Task A_required_store_that_is_down_refuses_and_nothing_runs()
    {
        IdempotentExecutor executor = Executor();
        Store.Fail();

        for (int i = 0; i < 3; i++)
        {
            Func<Task> run = async () => await RunAsync(executor);
            await run.Should().ThrowAsync<IdempotencyStoreException>();
        }

        Runs.Should().Be(0);
        Log.Entries.Should().ContainSingle().Which.Message.Should().Be("Idempotency 'orders': the store does not answer; requests with a key fail.");
    }

    [Fact]
    public async Task An_optional_store_that_is_down_lets_all_run_without_protection()
    {
        IdempotentExecutor executor = Executor(o => o.StoreRequired = false);
        Store.Fail();
        var phases = new List<int>();

        for (int i = 0; i < 2; i++)
        {
            await RunAsync(executor, within: async (operation, _) =>
            {
                operation.Status.Should().Be(IdempotencyStatus.Unprotected);
                operation.DownstreamKey("charge").Should().HaveLength(36);
                phases.Add(await operation.PhaseAsync("charge", _ => new ValueTask<int>(Runs), Json.Default.Int32));
            });
        }

        phases.Should().Equal(1, 2);
        Store.AllCalls.Should().Be(2);
        Time.Advance(Lease);
        Log.Entries.Should().ContainSingle().Which.Message.Should().Contain("run without protection");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_optional_store_that_goes_down_in_the_wait_of_a_duplicate_does_not_let_it_run_beside_the_other(bool inTheWait)
    {
        IdempotentExecutor executor = Executor(o => (o.StoreRequired, o.Duplicates) = (false, DuplicatePolicy.WaitAndReplay));
        Task<Receipt> first = Running(executor);
        if (inTheWait)
        {
            Store.Fail(Verb.Wait);
        }
        else
        {
            Store.Before = (verb, _) =>
            {
                if (verb == Verb.Wait)
                {
                    Store.Fail();
                    Time.Advance(TimeSpan.FromSeconds(1));
                }

                return Task.CompletedTask;
            };
            Store.Waits = _ => ValueTask.CompletedTask;
        }

        IdempotencyException refusal = await RefusalAsync(RunAsync(executor));

        refusal.Error.Should().Be(IdempotencyError.InProgress);
        Store.Work();
        _gate.SetResult();
        await WithinAsync(first);
        Runs.Should().Be(1);
    }

    [Fact]
    public async Task An_outcome_is_recorded_as_soon_as_the_store_answers_again()
    {
        IdempotentExecutor executor = Executor();
        int failures = 0;
        Store.Before = (verb, _) => verb == Verb.Complete && ++failures <= 5 ? Task.FromException(new IdempotencyStoreException("down")) : Task.CompletedTask;

        Task<Receipt> run = RunAsync(executor).AsTask();
        await AdvanceUntilAsync(run, TimeSpan.FromMilliseconds(100));

        (await run).Number.Should().Be(1);
        (await RunAsync(executor)).Number.Should().Be(1);
        Store.Calls(Verb.Complete).Should().Be(6);
        Log.Entries.Select(entry => entry.Id).Should().Equal(3, 4);
    }

    [Fact]
    public async Task A_completion_whose_reply_is_lost_is_found_to_be_done()
    {
        IdempotentExecutor executor = Executor();
        Store.After = (verb, _) => verb == Verb.Complete && Store.Calls(Verb.Complete) == 1 ? Task.FromException(new IdempotencyStoreException("cut off")) : Task.CompletedTask;

        Task<Receipt> run = RunAsync(executor).AsTask();
        await AdvanceUntilAsync(run, TimeSpan.FromMilliseconds(100));

        (await run).Number.Should().Be(1);
        Store.Calls(Verb.Complete).Should().Be(2);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Recording_is_tried_for_as_long_as_a_lease(bool required)
    {
        IdempotentExecutor executor = Executor(o => o.StoreRequired = required);
        Store.Fail(Verb.Complete);
        DateTimeOffset since = Time.GetUtcNow();

        Task<Receipt> run = RunAsync(executor).AsTask();
        await AdvanceUntilAsync(run, TimeSpan.FromMilliseconds(250));

        (Time.GetUtcNow() - since).Should().BeGreaterThan(Lease - TimeSpan.FromSeconds(3)).And.BeLessThan(Lease + TimeSpan.FromSeconds(10));
        Log.Entries.Should().ContainSingle(entry => entry.Id == 6);
        if (required)
        {
            Func<Task> awaiting = () => run;
            await awaiting.Should().ThrowAsync<IdempotencyStoreException>();
        }
        else
        {
            (await run).Number.Should().Be(1);
        }

        Store.Work();
        Time.Advance(2 * Lease);
        (await RunAsync(executor)).Number.Should().Be(2, "it was not recorded");
    }

    [Fact]
    public async Task Giving_back_during_an_outage_leaves_the_lease_to_end_it()
    {
        IdempotentExecutor executor = Executor();
        Store.Fail(Verb.Abandon);
        bool? abandoned = null;

        await RunAsync(executor, within: async (operation, ct) => abandoned = await operation.AbandonAsync(ct));

        abandoned.Should().BeFalse();
        (await RefusalAsync(RunAsync(executor))).Error.Should().Be(IdempotencyError.InProgress);
    }

    [Fact]
    public async Task A_bug_of_the_store_comes_out_as_it_is()
    {
        IdempotentExecutor executor = Executor(o => o.StoreRequired = false);
        Store.Before = (_, _) => Task.FromException(new InvalidCastException("bug"));

        Func<Task> run = async () => await RunAsync(executor);

        await run.Should().ThrowAsync<InvalidCastException>();
        Runs.Should().Be(0);
    }

    [Fact]
    public async Task A_caller_that_is_gone_before_the_claim_claims_nothing()
    {
        IdempotentExecutor executor = Executor();

        Func<Task> run = async () => await RunAsync(executor, token: new CancellationToken(canceled: true));

        await run.Should().ThrowAsync<OperationCanceledException>();
        (await RunAsync(executor)).Number.Should().Be(1);
    }

    [Fact]
    public async Task A_caller_that_goes_while_the_claim_is_on_its_way_does_not_run()
    {
        IdempotentExecutor executor = Executor();
        using var cancellation = new CancellationTokenSource();
        Store.Hang(Verb.Begin);
        Task<Receipt> run = RunAsync(executor, token: cancellation.Token).AsTask();

        await cancellation.CancelAsync();

        Func<Task> awaiting = () => WithinAsync(run);
        await awaiting.Should().ThrowAsync<OperationCanceledException>();
        Runs.Should().Be(0);
        Store.Work();
        (await RunAsync(executor)).Number.Should().Be(1);
    }

    [Fact]
    public async Task A_caller_that_goes_while_it_waits_for_another_does_not_run()
    {
        IdempotentExecutor executor = Executor(o => o.Duplicates = DuplicatePolicy.WaitAndReplay);
        using var cancellation = new CancellationTokenSource();
        Task<Receipt> first = Running(executor);
        Task<Receipt> second = RunAsync(executor, token: cancellation.Token).AsTask();

        await cancellation.CancelAsync();

        Func<Task> awaiting = () => WithinAsync(second);
        (await awaiting.Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(cancellation.Token);
        _gate.SetResult();
        (await WithinAsync(first)).Number.Should().Be(1);
        Runs.Should().Be(1);
    }

    [Fact]
    public async Task A_caller_that_goes_during_the_action_cancels_it_with_its_own_token_and_the_claim_stays()
    {
        IdempotentExecutor executor = Executor();
        using var cancellation = new CancellationTokenSource();
        Task<Receipt> run = Running(executor, obeys: true, cancellation.Token);

        await cancellation.CancelAsync();

        Func<Task> awaiting = () => WithinAsync(run);
        (await awaiting.Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(cancellation.Token);
        (await RefusalAsync(RunAsync(executor))).Error.Should().Be(IdempotencyError.InProgress);
        Time.Advance(Lease);
        (await RunAsync(executor)).Number.Should().Be(2);
    }

    [Fact]
    public async Task A_caller_that_goes_when_the_effect_is_made_changes_nothing()
    {
        IdempotentExecutor executor = Executor();
        using var cancellation = new CancellationTokenSource();
        var seen = new List<bool>();
        Store.Before = (verb, token) =>
        {
            if (verb is Verb.Complete or Verb.SavePhase)
            {
                seen.Add(token.IsCancellationRequested);
            }

            return Task.CompletedTask;
        };

        Receipt first = await RunAsync(executor, token: cancellation.Token, within: async (operation, _) =>
        {
            await operation.PhaseAsync("charge", async _ =>
            {
                await cancellation.CancelAsync();
                return 1;
            }, Json.Default.Int32, cancellation.Token);
        });

        first.Number.Should().Be(1);
        seen.Should().Equal(false, false);
        (await RunAsync(executor)).Number.Should().Be(1);
    }

    [Fact]
    public async Task An_operation_that_nobody_ended_leaves_its_lease_and_no_heartbeat()
    {
        IdempotentExecutor executor = Executor();
        IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body);

        await operation.DisposeAsync();
        await operation.DisposeAsync();

        Func<Task> late = async () => await operation.CompleteAsync(new IdempotencyOutcome(200, Body));
        await late.Should().ThrowAsync<InvalidOperationException>();
        operation.CancellationToken.IsCancellationRequested.Should().BeFalse();
        Time.Advance(10 * Lease);
        Store.Calls(Verb.Renew).Should().Be(0);
        (await RunAsync(executor)).Number.Should().Be(1);
    }

    [Fact]
    public async Task Operations_that_are_not_ours_refuse_to_be_ended()
    {
        IdempotentExecutor executor = Executor();
        var scope = new IdempotencyScope("orders");
        await using IdempotentOperation owner = await executor.BeginAsync(scope, "key", Body);
        await using IdempotentOperation duplicate = await executor.BeginAsync(scope, "key", Body);
        await using IdempotentOperation other = await executor.BeginAsync(scope, "key", new byte[] { 1 });
        await using IdempotentOperation prepared = executor.Prepare(scope, "key", Body);
        Func<Task>[] ends =
        [
            async () => await duplicate.CompleteAsync(new IdempotencyOutcome(1, Body)),
            async () => await duplicate.AbandonAsync(),
            async () => await other.CompleteAsync(new IdempotencyOutcome(1, Body)),
        ];

        foreach (Func<Task> end in ends)
        {
            await end.Should().ThrowAsync<IdempotencyException>();
        }

        Func<Task> early = async () => await prepared.CompleteAsync(new IdempotencyOutcome(1, Body));
        (await early.Should().ThrowAsync<InvalidOperationException>()).WithMessage("*BeginTransactionAsync*");
        (await owner.CompleteAsync(new IdempotencyOutcome(1, Body))).Should().BeTrue();
    }

    /// <summary>Somebody else claims the key once its lease is over in the store, of which the owner here hears nothing yet.</summary>
    private async Task<IdempotencyClaim> TakeOverAsync(bool alreadyOver = false)
    {
        var request = new IdempotencyClaimRequest
        {
            Key = Store.Begun.First(),
            Fingerprint = new IdempotencyDigest(System.Security.Cryptography.SHA256.HashData(Body)),
            Lease = TimeSpan.FromHours(1),
            Retention = TimeSpan.FromHours(24),
        };
        if (!alreadyOver)
        {
            // As though the store's clock ran ahead: the lease is cut short there.
            IdempotencyClaim owner = await Store.Inner.BeginAsync(request);
            await Store.Inner.RenewAsync(owner.Key, owner.Fence, TimeSpan.FromTicks(1));
            Time.Advance(TimeSpan.FromTicks(2));
        }

        IdempotencyClaim claim = await Store.Inner.BeginAsync(request);
        claim.Status.Should().Be(IdempotencyClaimStatus.Started);
        return claim;
    }

    [Theory]
    [InlineData(100)]
    [InlineData(1000)]
    public async Task A_lease_that_three_does_not_divide_is_over_in_time_too(int milliseconds)
    {
        IdempotentExecutor executor = Executor(o => o.Lease = TimeSpan.FromMilliseconds(milliseconds));
        await using IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body);
        Store.Fail(Verb.Renew);

        for (int i = 0; i < 3; i++)
        {
            Time.Advance(TimeSpan.FromMilliseconds(milliseconds) / 3);
        }

        bool before = operation.IsLeaseLost;
        Time.Advance(TimeSpan.FromMilliseconds(1));

        (before, operation.IsLeaseLost).Should().Be((false, true));
    }

    [Fact]
    public async Task A_lease_whose_renewal_was_sent_after_its_beat_is_over_in_time_too()
    {
        var late = new LateTimeProvider(Time);
        var executor = new IdempotentExecutor(Store, Options, late, Log);
        await using IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body);
        // As late as the thread of a timer may be: the lease is counted from 10.005 s, and the timer's thirds are not.
        late.By = TimeSpan.FromMilliseconds(5);
        Time.Advance(TimeSpan.FromSeconds(10));
        late.By = TimeSpan.Zero;
        Store.Calls(Verb.Renew).Should().Be(1);
        Store.Fail(Verb.Renew);

        Time.Advance(TimeSpan.FromSeconds(30));
        bool before = operation.IsLeaseLost;
        Time.Advance(TimeSpan.FromMilliseconds(6));

        (before, operation.IsLeaseLost).Should().Be((false, true));
    }

    [Fact]
    public async Task A_claim_that_was_answered_late_is_over_in_time_too()
    {
        IdempotentExecutor executor = Executor();
        Store.After = (verb, _) =>
        {
            if (verb == Verb.Begin)
            {
                Time.Advance(TimeSpan.FromSeconds(29));
            }

            return Task.CompletedTask;
        };
        await using IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body);
        Store.Fail(Verb.Renew);

        Time.Advance(TimeSpan.FromSeconds(0.9));
        (bool IsLeaseLost, int Renewals) before = (operation.IsLeaseLost, Store.Calls(Verb.Renew));
        Time.Advance(TimeSpan.FromSeconds(0.2));

        before.Should().Be((false, 1), "it is renewed at once");
        operation.IsLeaseLost.Should().BeTrue();
    }

    [Fact]
    public async Task What_the_action_registered_with_its_token_may_throw_when_the_lease_is_lost()
    {
        int unobserved = 0;
        void Observe(object? sender, UnobservedTaskExceptionEventArgs args) => Interlocked.Add(ref unobserved, args.Exception.ToString().Contains("of the lost lease", StringComparison.Ordinal) ? 1 : 0);
        TaskScheduler.UnobservedTaskException += Observe;

        await LoseAsync();
        for (int i = 0; i < 10; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System, CancellationToken.None);
        }

        TaskScheduler.UnobservedTaskException -= Observe;
        unobserved.Should().Be(0);

        async Task LoseAsync()
        {
            var called = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            await using IdempotentOperation operation = await Executor().BeginAsync(new IdempotencyScope("orders"), "key", Body);
            await using CancellationTokenRegistration registration = operation.CancellationToken.Register(() =>
            {
                called.SetResult();
                throw new IOException("of the lost lease");
            });
            Store.Fail(Verb.Renew);
            Time.Advance(Lease);
            await WithinAsync(called.Task);
        }
    }

    /// <summary>Whoever is called by its timers finds that it is later than it ought to be.</summary>
    private sealed class LateTimeProvider(TimeProvider inner) : TimeProvider
    {
        public TimeSpan By { get; set; }

        public override long TimestampFrequency => inner.TimestampFrequency;

        public override long GetTimestamp() => inner.GetTimestamp() + (long)(By.TotalSeconds * inner.TimestampFrequency);

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) => inner.CreateTimer(callback, state, dueTime, period);
    }

    [Fact]
    public async Task A_logger_that_throws_does_not_end_the_process_by_a_heartbeat()
    {
        var executor = new IdempotentExecutor(Store, Options, Time, new ThrowingLogger());
        await using IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body);
        Store.Fail(Verb.Renew);

        Action advance = () =>
        {
            for (int i = 0; i < 3; i++)
            {
                Time.Advance(Lease / 3);
            }
        };

        advance.Should().NotThrow();
        operation.CancellationToken.IsCancellationRequested.Should().BeTrue();
        Store.Calls(Verb.Renew).Should().Be(2, "the first failure does not stop the second try");
    }

    private sealed class ThrowingLogger : ILogger<IdempotentExecutor>
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => throw new IOException("the disk is full");
    }

    [Fact]
    public async Task A_renewal_that_is_answered_late_counts_from_when_it_was_sent()
    {
        IdempotentExecutor executor = Executor();
        await using IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body);
        var reply = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Store.After = (verb, _) => verb == Verb.Renew && Store.Calls(Verb.Renew) == 1 ? reply.Task : Task.CompletedTask;
        Time.Advance(TimeSpan.FromSeconds(10));
        Time.Advance(TimeSpan.FromSeconds(5));
        Store.Fail(Verb.Renew);
        reply.SetResult();
        // It is taken in when the next beat tries again.
        SpinWait.SpinUntil(
            () =>
            {
                Time.Advance(TimeSpan.FromMilliseconds(1));
                return Store.Calls(Verb.Renew) > 1;
            },
            TimeSpan.FromSeconds(30)).Should().BeTrue();

        Time.Advance(Start.AddSeconds(39.9) - Time.GetUtcNow());
        bool before = operation.IsLeaseLost;
        Time.Advance(TimeSpan.FromSeconds(0.2));

        (before, operation.IsLeaseLost).Should().Be((false, true));
    }

    [Fact]
    public async Task A_cancellation_of_the_actions_own_comes_out_as_it_is()
    {
        using var cancellation = new CancellationTokenSource();
        using var own = new CancellationTokenSource();
        Func<Task> run = async () => await RunAsync(Executor(), token: cancellation.Token, within: async (_, _) =>
        {
            await cancellation.CancelAsync();
            await own.CancelAsync();
            own.Token.ThrowIfCancellationRequested();
        });

        (await run.Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(own.Token);
    }
}
