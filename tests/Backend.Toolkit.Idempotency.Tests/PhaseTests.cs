namespace Backend.Toolkit.Idempotency.Tests;

public sealed class PhaseTests : Fixture
{
    private readonly List<string> _done = [];

    private ValueTask<int> PhaseAsync(IdempotentOperation operation, string name, int value) => operation.PhaseAsync(name, _ =>
    {
        _done.Add(name);
        return new ValueTask<int>(value);
    }, Json.Default.Int32);

    [Fact]
    public async Task A_takeover_goes_on_behind_the_last_phase_that_was_saved()
    {
        IdempotentExecutor executor = Executor();
        var seen = new List<int>();
        async ValueTask WithinAsync(IdempotentOperation operation, bool dies)
        {
            seen.Add(await PhaseAsync(operation, "charge", _done.Count + 10));
            seen.Add(await PhaseAsync(operation, "order", _done.Count + 20));
            if (dies)
            {
                throw new IOException("the power is gone");
            }

            seen.Add(await PhaseAsync(operation, "mail", _done.Count + 30));
        }

        Func<Task> dying = async () => await RunAsync(executor, within: (operation, _) => WithinAsync(operation, dies: true));
        await dying.Should().ThrowAsync<IOException>();
        Time.Advance(Lease);
        Receipt receipt = await RunAsync(executor, within: (operation, _) => WithinAsync(operation, dies: false));

        receipt.Number.Should().Be(2);
        _done.Should().Equal("charge", "order", "mail");
        seen.Should().Equal(10, 21, 10, 21, 32);
    }

    [Fact]
    public async Task A_phase_that_throws_is_not_saved()
    {
        IdempotentExecutor executor = Executor();
        int tries = 0;
        async ValueTask WithinAsync(IdempotentOperation operation, CancellationToken token) =>
            await operation.PhaseAsync("charge", _ => ++tries == 1 ? throw new IOException("declined") : new ValueTask<int>(tries), Json.Default.Int32, token);

        Func<Task> dying = async () => await RunAsync(executor, within: WithinAsync);
        await dying.Should().ThrowAsync<IOException>();
        Time.Advance(Lease);
        await RunAsync(executor, within: WithinAsync);

        tries.Should().Be(2);
    }

    [Fact]
    public async Task Phases_survive_that_the_key_was_given_back()
    {
        IdempotentExecutor executor = Executor();
        await RunAsync(executor, within: async (operation, ct) =>
        {
            await PhaseAsync(operation, "charge", 1);
            await operation.AbandonAsync(ct);
        });

        await RunAsync(executor, within: async (operation, _) => (await PhaseAsync(operation, "charge", 2)).Should().Be(1));

        _done.Should().Equal("charge");
        (await RefusalAsync(RunAsync(executor, body: [1]))).Error.Should().Be(IdempotencyError.Mismatch);
    }

    [Fact]
    public async Task A_phase_is_run_once_in_one_run_and_phases_may_run_beside_each_other()
    {
        IdempotentExecutor executor = Executor();
        int calls = 0;

        await RunAsync(executor, within: async (operation, _) =>
        {
            Func<CancellationToken, Task<int>> count = _ => Task.FromResult(Interlocked.Increment(ref calls));
            int[] values = await Task.WhenAll(Enumerable.Range(0, 16).Select(i => Task.Run(async () => await operation.PhaseAsync($"phase {i}", count, Json.Default.Int32))));
            int[] again = await Task.WhenAll(Enumerable.Range(0, 16).Select(i => Task.Run(async () => await operation.PhaseAsync($"phase {i}", count, Json.Default.Int32))));
            again.Should().Equal(values);
        });

        calls.Should().Be(16);
    }

    [Fact]
    public async Task A_phase_gets_the_token_of_the_operation_or_the_one_it_was_given()
    {
        IdempotentExecutor executor = Executor();
        using var own = new CancellationTokenSource();

        await RunAsync(executor, within: async (operation, ct) =>
        {
            operation.CancellationToken.Should().Be(ct);
            await operation.PhaseAsync("a", token => new ValueTask<int>(token == ct ? 1 : throw new InvalidOperationException()), Json.Default.Int32);
            await operation.PhaseAsync("b", token => new ValueTask<int>(token == own.Token ? 1 : throw new InvalidOperationException()), Json.Default.Int32, own.Token);
        });

        Runs.Should().Be(1);
    }

    [Fact]
    public async Task A_zombie_saves_no_phase_and_stops_there()
    {
        IdempotentExecutor executor = Executor();
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task<Receipt> zombie = RunAsync(executor, within: async (operation, _) =>
        {
            await gate.Task;
            await PhaseAsync(operation, "charge", 1);
            await PhaseAsync(operation, "mail", 2);
        }).AsTask();
        Store.Fail(Verb.Renew);
        Time.Advance(Lease);
        await using IdempotentOperation owner = await Executor().BeginAsync(new IdempotencyScope("orders"), "key", Body);
        owner.Status.Should().Be(IdempotencyStatus.Started);

        gate.SetResult();

        (await RefusalAsync(new ValueTask<Receipt>(WithinAsync(zombie)))).Error.Should().Be(IdempotencyError.LeaseLost);
        _done.Should().Equal("charge");
        (await owner.PhaseAsync("charge", _ => new ValueTask<int>(7), Json.Default.Int32)).Should().Be(7);
    }

    [Fact]
    public async Task A_phase_is_saved_as_soon_as_the_store_answers_again()
    {
        IdempotentExecutor executor = Executor();
        int failures = 0;
        Store.Before = (verb, _) => verb == Verb.SavePhase && ++failures <= 3 ? Task.FromException(new IdempotencyStoreException("down")) : Task.CompletedTask;

        Task<Receipt> run = RunAsync(executor, within: async (operation, _) => await PhaseAsync(operation, "charge", 1)).AsTask();
        await AdvanceUntilAsync(run, TimeSpan.FromMilliseconds(100));

        (await run).Number.Should().Be(1);
        Store.Calls(Verb.SavePhase).Should().Be(4);
        _done.Should().Equal("charge");
    }

    [Fact]
    public async Task A_value_that_is_too_large_or_cannot_be_read_is_a_typed_error()
    {
        IdempotentExecutor executor = Executor(o => o.MaxOutcomeBytes = 100);
        Func<Task> large = async () => await RunAsync(executor, "large", within: async (operation, _) =>
            await operation.PhaseAsync("text", _ => new ValueTask<string>(new string('x', 99)), Json.Default.String));
        Func<Task> changed = async () => await RunAsync(executor, "changed", within: async (operation, _) =>
        {
            await operation.PhaseAsync("text", _ => new ValueTask<string>("text"), Json.Default.String);
            await PhaseAsync(operation, "text", 1);
        });

        await large.Should().ThrowAsync<InvalidOperationException>().WithMessage("The result of phase 'text' must have at most MaxOutcomeBytes (100), but has 101: *");
        (await changed.Should().ThrowAsync<IdempotencyException>()).Which.Error.Should().Be(IdempotencyError.OutcomeUnreadable);
        _done.Should().BeEmpty();
    }

    [Fact]
    public async Task A_phase_has_a_name_of_up_to_100_characters_and_an_operation_that_runs()
    {
        IdempotentExecutor executor = Executor();
        IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body);
        await PhaseAsync(operation, new string('n', 100), 1);
        Func<Task>[] wrong =
        [
            async () => await PhaseAsync(operation, "", 1),
            async () => await PhaseAsync(operation, new string('n', 101), 1),
            async () => await operation.PhaseAsync("a", (Func<CancellationToken, ValueTask<int>>)null!, Json.Default.Int32),
            async () => await operation.PhaseAsync("a", _ => new ValueTask<int>(1), null!),
        ];

        foreach (Func<Task> call in wrong)
        {
            await call.Should().ThrowAsync<ArgumentException>();
        }

        await operation.DisposeAsync();
        Func<Task> late = async () => await PhaseAsync(operation, "late", 1);
        await late.Should().ThrowAsync<InvalidOperationException>();
        Action step = () => operation.DownstreamKey("");
        step.Should().Throw<ArgumentException>();
    }

    [Fact]
    public async Task Two_phases_of_one_name_never_run_beside_each_other()
    {
        IdempotentExecutor executor = Executor();
        await using IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body);
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        int charges = 0;
        async ValueTask<int> ChargeAsync(CancellationToken token)
        {
            await gate.Task;
            return ++charges == 2 ? throw new IOException("declined") : charges;
        }

        Task<int> first = operation.PhaseAsync("charge", ChargeAsync, Json.Default.Int32).AsTask();
        Func<Task> second = async () => await operation.PhaseAsync("charge", ChargeAsync, Json.Default.Int32);
        Func<Task> third = async () => await operation.PhaseAsync("charge", new TestConnection(), (_, ct) => ChargeAsync(ct), Json.Default.Int32);

        (await second.Should().ThrowAsync<InvalidOperationException>()).WithMessage("Phase 'charge' is running*");
        (await third.Should().ThrowAsync<InvalidOperationException>()).WithMessage("Phase 'charge' is running*");
        gate.SetResult();
        (await WithinAsync(first)).Should().Be(1);
        (await operation.PhaseAsync("charge", ChargeAsync, Json.Default.Int32)).Should().Be(1);
        Func<Task> failing = async () => await operation.PhaseAsync("mail", ChargeAsync, Json.Default.Int32);
        await failing.Should().ThrowAsync<IOException>();
        (await operation.PhaseAsync("mail", ChargeAsync, Json.Default.Int32)).Should().Be(3, "one that threw may be run again");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_phase_that_outlives_its_operation_is_no_lost_lease(bool inTransaction)
    {
        IdempotentExecutor executor = Executor();
        await using IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body);
        var gate = new TaskCompletionSource<int>(TaskCreationOptions.RunContinuationsAsynchronously);
        Task<int> phase = inTransaction
            ? operation.PhaseAsync("mail", new TestConnection(), (_, _) => new ValueTask<int>(gate.Task), Json.Default.Int32).AsTask()
            : operation.PhaseAsync("mail", _ => gate.Task, Json.Default.Int32).AsTask();
        await operation.CompleteAsync(new IdempotencyOutcome(200, Body));

        gate.SetResult(1);

        Func<Task> awaiting = () => WithinAsync(phase);
        (await awaiting.Should().ThrowAsync<InvalidOperationException>()).WithMessage("The operation has ended.");
        operation.IsLeaseLost.Should().BeFalse();
        Log.Entries.Should().BeEmpty();
    }

    [Fact]
    public async Task Only_argument_errors_of_a_phase_are_thrown_before_there_is_a_task()
    {
        IdempotentOperation operation = await Executor().BeginAsync(new IdempotencyScope("orders"), "key", Body);
        await operation.DisposeAsync();

        ValueTask<int> ended = operation.PhaseAsync("mail", _ => new ValueTask<int>(1), Json.Default.Int32);
        ValueTask<int> inTransaction = operation.PhaseAsync("mail", new TestConnection(), (_, _) => new ValueTask<int>(1), Json.Default.Int32);

        Func<Task>[] awaiting = [async () => await ended, async () => await inTransaction];
        foreach (Func<Task> each in awaiting)
        {
            await each.Should().ThrowAsync<InvalidOperationException>();
        }
    }
}
