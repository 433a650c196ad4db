using System.Data;
using System.Data.Common;

namespace Backend.Toolkit.Idempotency.Tests;

/// <summary>What the executor does with a store that has transactions; what such a store does itself is tested with each.</summary>
public sealed class TransactionTests : Fixture
{
    private readonly TestConnection _connection = new();

    private TestTransaction Last => _connection.Transactions[^1];

    private ValueTask<Receipt> RunInTransactionAsync(
        IdempotentExecutor executor, Func<IdempotentOperation, ValueTask>? within = null, byte[]? body = null, CancellationToken token = default) => executor.ExecuteInTransactionAsync(
        "key",
        body ?? Body,
        _connection,
        async (transaction, operation, _) =>
        {
            transaction.Should().BeSameAs(Last);
            Runs++;
            await (within?.Invoke(operation) ?? ValueTask.CompletedTask);
            return new Receipt(Runs, "thanks");
        },
        Json.Default.Receipt,
        token);

    [Fact]
    public async Task Effects_and_outcome_are_one_commit_and_a_repeat_replays()
    {
        IdempotentExecutor executor = Executor();

        Receipt first = await RunInTransactionAsync(executor);
        (bool, bool, bool) run = (Last.IsCommitted, Last.IsRolledBack, Last.IsDisposed);
        Receipt second = await RunInTransactionAsync(executor);
        (bool, bool, bool) repeat = (Last.IsCommitted, Last.IsRolledBack, Last.IsDisposed);

        second.Should().Be(first);
        Runs.Should().Be(1);
        run.Should().Be((true, false, true));
        repeat.Should().Be((false, true, true));
        Store.LockTimeout.Should().Be(TimeSpan.FromSeconds(10));
        (Store.Calls(Verb.CompleteAndCommit), Store.Calls(Verb.Complete), Store.Calls(Verb.Begin)).Should().Be((1, 0, 0));
        _connection.State.Should().Be(ConnectionState.Open);
    }

    [Fact]
    public async Task An_exception_rolls_all_of_it_back_and_the_next_runs_at_once()
    {
        IdempotentExecutor executor = Executor();
        Func<Task> failing = async () => await RunInTransactionAsync(executor, _ => throw new IOException("no"));

        await failing.Should().ThrowAsync<IOException>();
        (bool, bool, bool) failed = (Last.IsCommitted, Last.IsRolledBack, Last.IsDisposed);
        Receipt again = await RunInTransactionAsync(executor);

        failed.Should().Be((false, true, true));
        again.Number.Should().Be(2);
    }

    [Fact]
    public async Task A_result_that_cannot_be_written_rolls_back_and_leaves_no_tombstone()
    {
        IdempotentExecutor executor = Executor();
        Func<Task> failing = async () => await executor.ExecuteInTransactionAsync("key", Body, _connection, (_, _, _) => new ValueTask<Unwritable>(new Unwritable(double.NaN)), Json.Default.Unwritable);

        await failing.Should().ThrowAsync<ArgumentException>();

        Last.IsRolledBack.Should().BeTrue();
        (await RunInTransactionAsync(executor)).Number.Should().Be(1);
    }

    [Fact]
    public async Task A_run_that_gives_its_key_back_is_rolled_back()
    {
        IdempotentExecutor executor = Executor();

        await RunInTransactionAsync(executor, async operation => (await operation.AbandonAsync()).Should().BeTrue());

        (Last.IsCommitted, Last.IsRolledBack).Should().Be((false, true));
        Store.Calls(Verb.CompleteAndCommit).Should().Be(0);
    }

    [Theory]
    [InlineData(DuplicatePolicy.WaitAndReplay, true)]
    [InlineData(DuplicatePolicy.Reject, false)]
    public async Task A_concurrent_duplicate_waits_within_the_lock_timeout_or_is_rejected(DuplicatePolicy policy, bool replays)
    {
        IdempotentExecutor executor = Executor(o => (o.DuplicatesInTransaction, o.TimeLeft) = (policy, () => TimeSpan.FromSeconds(3)));
        var other = new TestConnection();
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task<Receipt> first = RunInTransactionAsync(executor, _ => new ValueTask(gate.Task)).AsTask();

        Task<Receipt> second = executor.ExecuteInTransactionAsync("key", Body, other, (_, _, _) => new ValueTask<Receipt>(new Receipt(99, "twice")), Json.Default.Receipt).AsTask();
        if (!replays)
        {
            (await RefusalAsync(new ValueTask<Receipt>(second))).Error.Should().Be(IdempotencyError.InProgress);
        }

        gate.SetResult();
        Receipt receipt = await WithinAsync(first);
        if (replays)
        {
            (await WithinAsync(second)).Should().Be(receipt);
        }

        other.Transactions.Should().ContainSingle(transaction => transaction.IsRolledBack && transaction.IsDisposed);
        Store.LockTimeout.Should().Be(TimeSpan.FromSeconds(3));
    }

    [Fact]
    public async Task Another_fingerprint_and_an_old_key_are_refused()
    {
        IdempotentExecutor executor = Executor();
        await RunInTransactionAsync(executor);

        IdempotencyException mismatch = await RefusalAsync(RunInTransactionAsync(executor, body: [1]));
        IdempotencyException old = await RefusalAsync(executor.ExecuteInTransactionAsync(
            Guid.CreateVersion7(Start.AddDays(-2)).ToString(), Body, _connection, (_, _, _) => new ValueTask<Receipt>(new Receipt(99, "late")), Json.Default.Receipt));

        mismatch.Error.Should().Be(IdempotencyError.Mismatch);
        old.Error.Should().Be(IdempotencyError.KeyExpired);
        _connection.Transactions.Should().HaveCount(2);
    }

    [Fact]
    public async Task An_action_that_swallows_the_refusal_gets_no_other_answer()
    {
        IdempotentExecutor executor = Executor();
        await RunInTransactionAsync(executor);
        await using IdempotentOperation operation = executor.Prepare(new IdempotencyScope("orders"), "key", Body);
        Func<Task> begin = async () => await operation.BeginTransactionAsync(_connection);

        (await begin.Should().ThrowAsync<IdempotencyException>()).Which.Error.Should().Be(IdempotencyError.AlreadyCompleted);

        (operation.Status, operation.Outcome!.IsTombstone).Should().Be((IdempotencyStatus.Completed, false));
        await begin.Should().ThrowAsync<IdempotencyException>();
        Func<Task> complete = async () => await operation.CompleteAsync(new IdempotencyOutcome(200, Body));
        await complete.Should().ThrowAsync<IdempotencyException>();
    }

    [Fact]
    public async Task An_operation_tells_whether_recording_its_outcome_commits_a_transaction()
    {
        await using IdempotentOperation operation = Executor().Prepare(new IdempotencyScope("orders"), "key", Body);

        bool before = operation.HasTransaction;
        await operation.BeginTransactionAsync(_connection);
        bool within = operation.HasTransaction;
        await operation.AbandonAsync();

        (before, within, operation.HasTransaction).Should().Be((false, true, false));
    }

    [Fact]
    public async Task A_transaction_that_somebody_else_ended_is_told_as_that()
    {
        IdempotentExecutor executor = Executor();
        Func<Task> run = async () => await RunInTransactionAsync(executor, async _ => await _connection.CloseAsync());

        await run.Should().ThrowAsync<InvalidOperationException>().WithMessage("*neither commits, nor rolls back, nor disposes of the transaction or its connection*");

        Store.Calls(Verb.CompleteAndCommit).Should().Be(0);
        Last.IsCommitted.Should().BeFalse();
    }

    [Fact]
    public async Task A_commit_that_fails_is_not_tried_again()
    {
        IdempotentExecutor executor = Executor(o => o.StoreRequired = false);
        Store.Fail(Verb.CompleteAndCommit);

        Func<Task> run = async () => await RunInTransactionAsync(executor);

        await run.Should().ThrowAsync<IdempotencyStoreException>("what became of the commit is not known");
        Store.Calls(Verb.CompleteAndCommit).Should().Be(1);
        (Last.IsRolledBack, Last.IsDisposed).Should().Be((true, true));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_database_that_is_down_fails_whatever_the_policy(bool required)
    {
        IdempotentExecutor executor = Executor(o => o.StoreRequired = required);
        Store.Fail();

        Func<Task> run = async () => await RunInTransactionAsync(executor);

        await run.Should().ThrowAsync<IdempotencyStoreException>();
        Runs.Should().Be(0);
    }

    [Fact]
    public async Task A_store_without_transactions_says_so()
    {
        var executor = new IdempotentExecutor(Store.Inner, Options, Time);

        Func<Task> run = async () => await RunInTransactionAsync(executor);

        await run.Should().ThrowAsync<InvalidOperationException>().WithMessage("MemoryIdempotencyStore has no transactions*");
        var request = new IdempotencyClaimRequest { Key = new(new byte[32]), Fingerprint = default, Lease = Lease, Retention = Lease };
        IdempotencyClaim claim = await Store.Inner.BeginAsync(request);
        var transaction = new TestTransaction(_connection);
        Func<Task> save = async () => await Store.Inner.SavePhaseAsync(claim.Key, claim.Fence, "a", Body, transaction);
        Func<Task> complete = async () => await Store.Inner.CompleteAsync(claim.Key, claim.Fence, new IdempotencyOutcome(1, Body), Lease, transaction);
        await save.Should().ThrowAsync<NotSupportedException>();
        await complete.Should().ThrowAsync<NotSupportedException>();
    }

    [Fact]
    public async Task Phases_belong_to_lease_mode()
    {
        IdempotentExecutor executor = Executor();

        Func<Task> run = async () => await RunInTransactionAsync(executor, async operation => await operation.PhaseAsync("charge", _ => new ValueTask<int>(1), Json.Default.Int32));

        await run.Should().ThrowAsync<InvalidOperationException>().WithMessage("Phases belong to lease mode*");
        Last.IsRolledBack.Should().BeTrue();
    }

    [Fact]
    public async Task A_lease_with_a_transaction_commits_effects_and_outcome_together_after_its_phases()
    {
        IdempotentExecutor executor = Executor();

        Receipt first = await RunAsync(executor, within: async (operation, ct) =>
        {
            await operation.PhaseAsync("charge", _ => new ValueTask<int>(1), Json.Default.Int32);
            _connection.Transactions.Should().BeEmpty("no transaction is open during the charge");
            DbTransaction transaction = await operation.BeginTransactionAsync(_connection, ct);
            transaction.Should().BeSameAs(Last);
            Func<Task> second = async () => await operation.BeginTransactionAsync(_connection, ct);
            await second.Should().ThrowAsync<InvalidOperationException>();
        });

        (Last.IsCommitted, Last.IsDisposed).Should().Be((true, true));
        (Store.Calls(Verb.CompleteAndCommit), Store.Calls(Verb.Complete), Store.Calls(Verb.Claim)).Should().Be((1, 0, 0));
        (await RunAsync(executor)).Should().Be(first);
    }

    [Fact]
    public async Task A_zombie_with_a_transaction_commits_nothing()
    {
        IdempotentExecutor executor = Executor();
        Store.Fail(Verb.Renew);
        Func<Task> zombie = async () => await RunAsync(executor, within: async (operation, ct) =>
        {
            await operation.BeginTransactionAsync(_connection, ct);
            Time.Advance(Lease);
            await using IdempotentOperation owner = await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body, CancellationToken.None);
            owner.Status.Should().Be(IdempotencyStatus.Started);
        });

        (await zombie.Should().ThrowAsync<IdempotencyException>()).Which.Error.Should().Be(IdempotencyError.LeaseLost);

        (Last.IsCommitted, Last.IsRolledBack, Last.IsDisposed).Should().Be((false, true, true));
    }

    [Fact]
    public async Task A_phase_with_a_connection_is_saved_in_the_commit_of_its_effect()
    {
        IdempotentExecutor executor = Executor();
        int effects = 0;
        async ValueTask WithinAsync(IdempotentOperation operation, CancellationToken ct)
        {
            (await operation.PhaseAsync("order", _connection, (transaction, _) =>
            {
                transaction.Should().BeSameAs(Last);
                return new ValueTask<int>(++effects);
            }, Json.Default.Int32, ct)).Should().Be(1);
            if (Runs == 1)
            {
                throw new IOException("the power is gone");
            }
        }

        Func<Task> dying = async () => await RunAsync(executor, within: WithinAsync);
        await dying.Should().ThrowAsync<IOException>();
        Time.Advance(Lease);
        await RunAsync(executor, within: WithinAsync);

        effects.Should().Be(1);
        _connection.Transactions.Should().ContainSingle(transaction => transaction.IsCommitted && transaction.IsDisposed);
    }

    [Fact]
    public async Task A_phase_of_a_zombie_is_rolled_back()
    {
        IdempotentExecutor executor = Executor();
        Store.Fail(Verb.Renew);
        using var own = new CancellationTokenSource();
        Func<Task> zombie = async () => await RunAsync(executor, within: async (operation, ct) => await operation.PhaseAsync("order", _connection, async (_, _) =>
        {
            Time.Advance(Lease);
            await using IdempotentOperation owner = await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body, CancellationToken.None);
            return 1;
        }, Json.Default.Int32, own.Token));

        (await zombie.Should().ThrowAsync<IdempotencyException>()).Which.Error.Should().Be(IdempotencyError.LeaseLost);

        (Last.IsCommitted, Last.IsRolledBack, Last.IsDisposed).Should().Be((false, true, true));
    }

    [Fact]
    public async Task Without_protection_the_transaction_is_committed_all_the_same()
    {
        IdempotentExecutor executor = Executor(o => o.StoreRequired = false);
        Store.Fail();

        await RunAsync(executor, within: async (operation, ct) =>
        {
            await operation.PhaseAsync("phase", _connection, (_, _) => new ValueTask<int>(1), Json.Default.Int32, ct);
            await operation.BeginTransactionAsync(_connection, ct);
        });

        _connection.Transactions.Should().HaveCount(2).And.OnlyContain(transaction => transaction.IsCommitted && transaction.IsDisposed);
        Store.Calls(Verb.BeginTransaction).Should().Be(0);
    }

    [Theory]
    [InlineData(nameof(Verb.BeginTransaction), false)]
    [InlineData(nameof(Verb.Claim), false)]
    [InlineData(nameof(Verb.BeginTransaction), true)]
    public async Task A_transaction_that_begins_when_the_operation_has_ended_is_rolled_back(string slow, bool inLeaseMode)
    {
        IdempotentExecutor executor = Executor();
        var scope = new IdempotencyScope("orders");
        IdempotentOperation operation = inLeaseMode ? await executor.BeginAsync(scope, "key", Body) : executor.Prepare(scope, "key", Body);
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Store.After = (verb, _) => verb.ToString() == slow ? gate.Task : Task.CompletedTask;
        Task<DbTransaction> beginning = operation.BeginTransactionAsync(_connection).AsTask();
        if (inLeaseMode)
        {
            await operation.CompleteAsync(new IdempotencyOutcome(200, Body));
        }

        await operation.DisposeAsync();
        gate.SetResult();

        Func<Task> awaiting = () => WithinAsync(beginning);
        (await awaiting.Should().ThrowAsync<InvalidOperationException>()).WithMessage("The operation has ended.");
        (Last.IsCommitted, Last.IsRolledBack, Last.IsDisposed).Should().Be((false, true, true));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_transaction_that_could_not_be_begun_may_be_tried_again(bool protectedRun)
    {
        IdempotentExecutor executor = Executor(o => o.StoreRequired = protectedRun);
        if (!protectedRun)
        {
            Store.Fail(Verb.Begin);
        }

        await using IdempotentOperation operation = protectedRun ? executor.Prepare(new IdempotencyScope("orders"), "key", Body) : await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body);
        Func<Task> first = async () => await operation.BeginTransactionAsync(_connection, new CancellationToken(canceled: true));
        await first.Should().ThrowAsync<OperationCanceledException>();

        await operation.BeginTransactionAsync(_connection);

        (await operation.CompleteAsync(new IdempotencyOutcome(200, Body))).Should().Be(protectedRun);
        Last.IsCommitted.Should().BeTrue();
    }

    [Fact]
    public async Task A_connection_that_breaks_after_the_commit_does_not_take_the_result()
    {
        IdempotentExecutor executor = Executor();

        Receipt receipt = await RunInTransactionAsync(executor, _ =>
        {
            Last.Disposing = static () => throw new IOException("gone");
            return ValueTask.CompletedTask;
        });

        receipt.Number.Should().Be(1);
        (Last.IsCommitted, Last.IsDisposed).Should().Be((true, true));
    }
}
