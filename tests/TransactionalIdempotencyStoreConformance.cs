using System.Data;
using System.Data.Common;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text.Json.Serialization;

namespace Backend.Toolkit.Idempotency.Tests;

/// <summary>
/// What every store in the application's database does, beside <see cref="IdempotencyStoreConformance"/>: claims, effects and outcomes in one commit. Effects are rows of the table
/// <c>effects (name text NOT NULL)</c>, which the database of <see cref="CreateStoreAsync"/> has.
/// </summary>
public abstract partial class TransactionalIdempotencyStoreConformance : IAsyncLifetime
{
    private static readonly byte[] Content = [1, 2, 3, 0, 255];

    private readonly List<DbConnection> _connections = [];
    private ITransactionalIdempotencyStore _store = null!;

    protected static TimeSpan Lease { get; } = TimeSpan.FromSeconds(30);

    protected static TimeSpan Retention { get; } = TimeSpan.FromHours(24);

    /// <summary>Longer than anything here takes.</summary>
    protected static TimeSpan Patience { get; } = TimeSpan.FromSeconds(30);

    /// <summary>A duplicate waits where its transaction begins, and not where it claims: one writer at a time.</summary>
    protected virtual bool BeginningWaits => false;

    /// <summary>A store of its own for each test.</summary>
    protected abstract ValueTask<ITransactionalIdempotencyStore> CreateStoreAsync();

    /// <summary>An open connection to the store's database.</summary>
    protected abstract ValueTask<DbConnection> ConnectAsync();

    /// <summary>Makes every instant that the store holds older by so much.</summary>
    protected abstract ValueTask ShiftAsync(IIdempotencyStore store, TimeSpan by);

    public async ValueTask InitializeAsync() => _store = await CreateStoreAsync();

    public async ValueTask DisposeAsync()
    {
        foreach (DbConnection connection in _connections)
        {
            await connection.DisposeAsync();
        }

        await DisposeStoreAsync(_store);
        GC.SuppressFinalize(this);
    }

    protected virtual async ValueTask DisposeStoreAsync(ITransactionalIdempotencyStore store)
    {
        if (store is IAsyncDisposable disposable)
        {
            await disposable.DisposeAsync();
        }
    }

    [Fact]
    public async Task A_claim_and_its_effect_are_committed_together_with_the_outcome_and_replayed()
    {
        IdempotencyClaimRequest request = Request();
        string effect = NewEffect();
        DbTransaction transaction = await BeginAsync();
        IdempotencyClaim claim = await ClaimAsync(request, transaction);
        await AffectAsync(effect, transaction);

        bool committed = await _store.CompleteAndCommitAsync(claim.Key, claim.Fence, new IdempotencyOutcome(201, Content), Retention, transaction);

        await transaction.DisposeAsync();
        (claim.Status, claim.Key, committed).Should().Be((IdempotencyClaimStatus.Started, request.Key, true));
        claim.Fence.Should().BePositive();
        (await CountAsync(effect)).Should().Be(1);
        await ReplaysAsync(request, 201);
        await using DbTransaction repeat = await BeginAsync();
        IdempotencyClaim replay = await ClaimAsync(request, repeat);
        (replay.Status, replay.Outcome!.Status).Should().Be((IdempotencyClaimStatus.Completed, 201));
        replay.Outcome.Content.ToArray().Should().Equal(Content);
    }

    [Fact]
    public async Task The_connection_goes_on_after_a_commit()
    {
        DbConnection connection = await OpenAsync();
        for (int i = 0; i < 3; i++)
        {
            DbTransaction transaction = await _store.BeginTransactionAsync(connection, Patience);
            IdempotencyClaim claim = await ClaimAsync(Request(), transaction);
            (await _store.CompleteAndCommitAsync(claim.Key, claim.Fence, new IdempotencyOutcome(200, Content), Retention, transaction)).Should().BeTrue();
            await transaction.DisposeAsync();
        }

        await using DbTransaction own = await connection.BeginTransactionAsync();
        await AffectAsync(NewEffect(), own);

        await own.CommitAsync();
    }

    [Fact]
    public async Task A_rollback_takes_the_claim_back_with_the_effect()
    {
        IdempotencyClaimRequest request = Request();
        string effect = NewEffect();
        DbTransaction transaction = await BeginAsync();
        await ClaimAsync(request, transaction);
        await AffectAsync(effect, transaction);

        await transaction.RollbackAsync();

        await transaction.DisposeAsync();
        (await CountAsync(effect)).Should().Be(0);
        (await _store.BeginAsync(Request(request.Key))).Status.Should().Be(IdempotencyClaimStatus.Started, "it is as though there had been none, whatever the fingerprint");
    }

    [Fact]
    public async Task An_outcome_and_a_phase_in_the_callers_transaction_are_rolled_back_with_it()
    {
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim claim = await _store.BeginAsync(request);
        DbTransaction transaction = await BeginAsync();
        bool saved = await _store.SavePhaseAsync(claim.Key, claim.Fence, "charge", Content, transaction);
        bool completed = await _store.CompleteAsync(claim.Key, claim.Fence, new IdempotencyOutcome(200, Content), Retention, transaction);

        await transaction.RollbackAsync();

        await transaction.DisposeAsync();
        (saved, completed).Should().Be((true, true));
        (await _store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.InProgress);
        await ShiftAsync(_store, Lease);
        (await _store.BeginAsync(request)).Phases.Should().BeEmpty();
    }

    [Fact]
    public async Task An_outcome_and_a_phase_in_the_callers_transaction_are_committed_with_it()
    {
        IdempotencyClaimRequest phased = Request(), completed = Request();
        IdempotencyClaim one = await _store.BeginAsync(phased), other = await _store.BeginAsync(completed);
        DbTransaction transaction = await BeginAsync();
        await _store.SavePhaseAsync(one.Key, one.Fence, "charge", Content, transaction);
        await _store.CompleteAsync(other.Key, other.Fence, new IdempotencyOutcome(204, Content), Retention, transaction);

        await transaction.CommitAsync();

        await transaction.DisposeAsync();
        await ReplaysAsync(completed, 204);
        await ShiftAsync(_store, Lease);
        (await _store.BeginAsync(phased)).Phases.Should().ContainKey("charge").WhoseValue.ToArray().Should().Equal(Content);
    }

    [Fact]
    public async Task A_transaction_that_claims_and_is_committed_by_its_caller_is_replayed()
    {
        IdempotencyClaimRequest request = Request();
        DbTransaction transaction = await BeginAsync();
        IdempotencyClaim claim = await ClaimAsync(request, transaction);
        await _store.CompleteAsync(claim.Key, claim.Fence, IdempotencyOutcome.Tombstone(202), Retention, transaction);

        await transaction.CommitAsync();

        await transaction.DisposeAsync();
        IdempotencyClaim replay = await _store.BeginAsync(request);
        (replay.Outcome!.Status, replay.Outcome.IsTombstone).Should().Be((202, true));
    }

    [Fact]
    public async Task A_duplicate_waits_for_the_commit_and_then_replays()
    {
        IdempotencyClaimRequest request = Request();
        DbTransaction transaction = await BeginAsync();
        IdempotencyClaim claim = await ClaimAsync(request, transaction);
        Task<IdempotencyClaim> duplicate = DuplicateAsync(request, Patience);
        await LetItWaitAsync(duplicate);
        bool waited = !duplicate.IsCompleted;

        await _store.CompleteAndCommitAsync(claim.Key, claim.Fence, new IdempotencyOutcome(201, Content), Retention, transaction);
        await transaction.DisposeAsync();

        IdempotencyClaim replay = await duplicate;
        waited.Should().BeTrue();
        (replay.Status, replay.Outcome!.Status).Should().Be((IdempotencyClaimStatus.Completed, 201));
    }

    [Fact]
    public async Task A_duplicate_that_waited_for_a_rollback_starts()
    {
        IdempotencyClaimRequest request = Request();
        DbTransaction transaction = await BeginAsync();
        await ClaimAsync(request, transaction);
        Task<IdempotencyClaim> duplicate = DuplicateAsync(request, Patience);
        await LetItWaitAsync(duplicate);

        await transaction.RollbackAsync();
        await transaction.DisposeAsync();

        (await duplicate).Status.Should().Be(IdempotencyClaimStatus.Started);
    }

    [Theory]
    [InlineData(DuplicatePolicy.WaitAndReplay)]
    [InlineData(DuplicatePolicy.Reject)]
    public async Task A_duplicate_that_does_not_wait_long_enough_is_told_so_and_the_owner_goes_on(DuplicatePolicy duplicates)
    {
        IdempotencyClaimRequest request = Request();
        DbTransaction transaction = await BeginAsync();
        IdempotencyClaim claim = await ClaimAsync(request, transaction);
        Func<Task<IdempotencyClaim>> duplicate = () => DuplicateAsync(request, TimeSpan.FromMilliseconds(200), duplicates);

        if (BeginningWaits)
        {
            await duplicate.Should().ThrowAsync<IdempotencyStoreException>();
        }
        else
        {
            (await duplicate()).Status.Should().Be(IdempotencyClaimStatus.InProgress);
        }

        (await _store.CompleteAndCommitAsync(claim.Key, claim.Fence, new IdempotencyOutcome(201, Content), Retention, transaction)).Should().BeTrue();
        await transaction.DisposeAsync();
        await ReplaysAsync(request, 201);
    }

    [Fact]
    public async Task Another_fingerprint_is_a_mismatch_in_a_transaction_too()
    {
        IdempotencyClaimRequest request = Request();
        await CompleteAsync(request, 200);
        await using DbTransaction transaction = await BeginAsync();

        IdempotencyClaim claim = await ClaimAsync(Request(request.Key), transaction);

        claim.Status.Should().Be(IdempotencyClaimStatus.Mismatch);
    }

    [Fact]
    public async Task A_lease_is_respected_in_a_transaction_and_taken_over_when_it_has_ended_with_its_phases()
    {
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim first = await _store.BeginAsync(request);
        await _store.SavePhaseAsync(first.Key, first.Fence, "charge", Content);
        IdempotencyClaim duplicate;
        await using (DbTransaction transaction = await BeginAsync())
        {
            duplicate = await ClaimAsync(request, transaction);
        }

        await ShiftAsync(_store, Lease);
        DbTransaction later = await BeginAsync();
        IdempotencyClaim second = await ClaimAsync(request, later);
        await later.CommitAsync();
        await later.DisposeAsync();

        (duplicate.Status, duplicate.Fence).Should().Be((IdempotencyClaimStatus.InProgress, first.Fence));
        duplicate.LeaseLeft.Should().BePositive().And.BeLessThanOrEqualTo(Lease);
        second.Status.Should().Be(IdempotencyClaimStatus.Started);
        second.Fence.Should().BeGreaterThan(first.Fence);
        second.Phases.Should().ContainKey("charge");
        (await _store.CompleteAsync(first.Key, first.Fence, new IdempotencyOutcome(500, Content), Retention)).Should().BeFalse();
    }

    [Fact]
    public async Task A_takeover_that_is_rolled_back_leaves_the_former_owner_what_it_had()
    {
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim first = await _store.BeginAsync(request);
        await ShiftAsync(_store, Lease);
        DbTransaction transaction = await BeginAsync();
        await ClaimAsync(request, transaction);

        await transaction.RollbackAsync();

        await transaction.DisposeAsync();
        (await _store.CompleteAsync(first.Key, first.Fence, new IdempotencyOutcome(200, Content), Retention)).Should().BeTrue();
    }

    [Fact]
    public async Task An_expired_record_is_not_there_for_a_transaction()
    {
        IdempotencyClaimRequest request = Request();
        await CompleteAsync(request, 200);
        await ShiftAsync(_store, Retention + TimeSpan.FromSeconds(1));
        await using DbTransaction transaction = await BeginAsync();

        IdempotencyClaim claim = await ClaimAsync(Request(request.Key), transaction);

        claim.Status.Should().Be(IdempotencyClaimStatus.Started);
        claim.Phases.Should().BeEmpty();
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(1)]
    public async Task A_commit_under_another_fence_commits_nothing(long off)
    {
        IdempotencyClaimRequest request = Request();
        string effect = NewEffect();
        DbTransaction transaction = await BeginAsync();
        IdempotencyClaim claim = await ClaimAsync(request, transaction);
        await AffectAsync(effect, transaction);

        bool committed = await _store.CompleteAndCommitAsync(claim.Key, claim.Fence + off, new IdempotencyOutcome(200, Content), Retention, transaction);

        await transaction.RollbackAsync();
        await transaction.DisposeAsync();
        committed.Should().BeFalse();
        (await CountAsync(effect)).Should().Be(0);
        (await _store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Started);
    }

    [Fact]
    public async Task A_zombie_with_a_transaction_commits_nothing()
    {
        IdempotencyClaimRequest request = Request();
        string effect = NewEffect();
        IdempotencyClaim zombie = await _store.BeginAsync(request);
        await ShiftAsync(_store, Lease);
        IdempotencyClaim owner = await _store.BeginAsync(request);
        DbTransaction transaction = await BeginAsync();
        await AffectAsync(effect, transaction);

        bool saved = await _store.SavePhaseAsync(zombie.Key, zombie.Fence, "charge", Content, transaction);
        bool completed = await _store.CompleteAsync(zombie.Key, zombie.Fence, new IdempotencyOutcome(500, Content), Retention, transaction);
        bool committed = await _store.CompleteAndCommitAsync(zombie.Key, zombie.Fence, new IdempotencyOutcome(500, Content), Retention, transaction);

        await transaction.RollbackAsync();
        await transaction.DisposeAsync();
        (saved, completed, committed).Should().Be((false, false, false));
        (await CountAsync(effect)).Should().Be(0);
        (await _store.CompleteAsync(owner.Key, owner.Fence, new IdempotencyOutcome(201, Content), Retention)).Should().BeTrue();
    }

    [Fact]
    public async Task A_lease_is_completed_in_one_commit_with_effects_and_who_waits_is_woken()
    {
        IdempotencyClaimRequest request = Request();
        string effect = NewEffect();
        IdempotencyClaim claim = await _store.BeginAsync(request);
        Task wait = Task.Run(() => _store.WaitAsync(claim.Key, claim.Fence, TimeSpan.FromMinutes(10)).AsTask());
        await LetItWaitAsync(wait);
        DbTransaction transaction = await BeginAsync();
        await AffectAsync(effect, transaction);

        bool committed = await _store.CompleteAndCommitAsync(claim.Key, claim.Fence, new IdempotencyOutcome(201, Content), Retention, transaction);

        await transaction.DisposeAsync();
        committed.Should().BeTrue();
        await wait.WaitAsync(Patience, TimeProvider.System);
        (await CountAsync(effect)).Should().Be(1);
        await ReplaysAsync(request, 201);
    }

    [Fact]
    public async Task A_record_under_the_previous_key_is_found_by_a_transaction()
    {
        IdempotencyClaimRequest before = Request();
        await CompleteAsync(before, 203);
        await using DbTransaction transaction = await BeginAsync();

        IdempotencyClaim claim = await ClaimAsync(Request(fingerprint: before.Fingerprint, previous: before.Key), transaction);

        (claim.Status, claim.Key, claim.Outcome!.Status).Should().Be((IdempotencyClaimStatus.Completed, before.Key, 203));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Of_16_transactions_that_race_for_a_key_one_has_its_effect_and_all_others_replay_it(bool whileASecretIsRotated)
    {
        for (int round = 0; round < 3; round++)
        {
            IdempotencyClaimRequest one = whileASecretIsRotated ? Request(previous: Digest()) : Request();
            IdempotencyClaimRequest other = whileASecretIsRotated ? Request(one.PreviousKey, one.Fingerprint, one.Key) : one;
            string effect = NewEffect();
            var start = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

            Task<IdempotencyClaimStatus>[] runs = [.. Enumerable.Range(0, 16).Select(index => Task.Run(async () =>
            {
                await using DbConnection connection = await ConnectAsync();
                await start.Task;
                await using DbTransaction transaction = await _store.BeginTransactionAsync(connection, Patience);
                IdempotencyClaim claim = await _store.ClaimAsync(index % 2 == 0 ? one : other, transaction, DuplicatePolicy.WaitAndReplay, Patience);
                if (claim.Status == IdempotencyClaimStatus.Started)
                {
                    await AffectAsync(effect, transaction);
                    (await _store.CompleteAndCommitAsync(claim.Key, claim.Fence, new IdempotencyOutcome(201, Content), Retention, transaction)).Should().BeTrue();
                }
                else
                {
                    await transaction.RollbackAsync();
                }

                return claim.Status;
            }))];
            start.SetResult();
            IdempotencyClaimStatus[] ends = await Task.WhenAll(runs);

            ends.Should().ContainSingle(end => end == IdempotencyClaimStatus.Started);
            ends.Count(end => end == IdempotencyClaimStatus.Completed).Should().Be(15);
            (await CountAsync(effect)).Should().Be(1);
        }
    }

    [Fact]
    public async Task What_belongs_to_another_database_is_refused()
    {
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim claim = await _store.BeginAsync(request);
        var connection = new ForeignConnection();
        var transaction = new ForeignTransaction(connection);
        var outcome = new IdempotencyOutcome(200, Content);
        Func<Task>[] verbs =
        [
            async () => await _store.BeginTransactionAsync(connection, Patience),
            async () => await _store.ClaimAsync(request, transaction, DuplicatePolicy.WaitAndReplay, Patience),
            async () => await _store.SavePhaseAsync(claim.Key, claim.Fence, "charge", Content, transaction),
            async () => await _store.CompleteAsync(claim.Key, claim.Fence, outcome, Retention, transaction),
            async () => await _store.CompleteAndCommitAsync(claim.Key, claim.Fence, outcome, Retention, transaction),
        ];

        foreach (Func<Task> verb in verbs)
        {
            await verb.Should().ThrowAsync<ArgumentException>();
        }

        (await _store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.InProgress);
    }

    [Fact]
    public async Task A_transaction_that_has_ended_is_refused()
    {
        IdempotencyClaimRequest request = Request();
        DbTransaction transaction = await BeginAsync();
        await transaction.RollbackAsync();

        Func<Task> claim = async () => await ClaimAsync(request, transaction);

        await claim.Should().ThrowAsync<ArgumentException>();
        await transaction.DisposeAsync();
    }

    [Fact]
    public async Task An_executor_runs_in_a_transaction_once_and_replays()
    {
        IdempotentExecutor executor = Executor();
        DbConnection connection = await OpenAsync();
        string effect = NewEffect();

        string first = await RunAsync(executor, connection, effect);
        string second = await RunAsync(executor, connection, effect);

        second.Should().Be(first);
        (await CountAsync(effect)).Should().Be(1);
    }

    [Fact]
    public async Task An_executor_rolls_an_exception_back_and_runs_again()
    {
        IdempotentExecutor executor = Executor();
        DbConnection connection = await OpenAsync();
        string effect = NewEffect();
        Func<Task> failing = async () => await RunAsync(executor, connection, effect, fails: true);

        await failing.Should().ThrowAsync<IOException>();
        int afterFailure = await CountAsync(effect);
        await RunAsync(executor, connection, effect);

        afterFailure.Should().Be(0);
        (await CountAsync(effect)).Should().Be(1);
    }

    [Fact]
    public async Task Executors_that_get_one_key_at_once_have_one_effect_and_one_answer()
    {
        IdempotentExecutor executor = Executor();
        string effect = NewEffect();

        string[] answers = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(async () =>
        {
            await using DbConnection connection = await ConnectAsync();
            return await RunAsync(executor, connection, effect);
        })));

        answers.Distinct().Should().ContainSingle();
        (await CountAsync(effect)).Should().Be(1);
    }

    [Fact]
    public async Task A_phase_of_an_executor_is_saved_in_the_commit_of_its_effect()
    {
        IdempotentExecutor executor = Executor();
        DbConnection connection = await OpenAsync();
        string effect = NewEffect();
        int runs = 0;
        async Task<string> RunOnceAsync() => await executor.ExecuteAsync(effect, Content, async (operation, token) =>
        {
            string phase = await operation.PhaseAsync("order", connection, async (transaction, _) =>
            {
                await AffectAsync(effect, transaction);
                return $"order {runs}";
            }, ConformanceJson.Default.String, token);
            return ++runs == 1 ? throw new IOException("the power is gone") : phase;
        }, ConformanceJson.Default.String);
        Func<Task> dying = RunOnceAsync;

        await dying.Should().ThrowAsync<IOException>();
        await ShiftAsync(_store, Lease);
        string answer = await RunOnceAsync();

        answer.Should().Be("order 0");
        (await CountAsync(effect)).Should().Be(1);
    }

    [Fact]
    public async Task A_lease_of_an_executor_ends_in_a_transaction_with_its_effect()
    {
        IdempotentExecutor executor = Executor();
        DbConnection connection = await OpenAsync();
        string effect = NewEffect();
        async Task<string> RunOnceAsync() => await executor.ExecuteAsync(effect, Content, async (operation, token) =>
        {
            DbTransaction transaction = await operation.BeginTransactionAsync(connection, token);
            await AffectAsync(effect, transaction);
            return Guid.NewGuid().ToString();
        }, ConformanceJson.Default.String);

        string first = await RunOnceAsync();
        string second = await RunOnceAsync();

        second.Should().Be(first);
        (await CountAsync(effect)).Should().Be(1);
    }

    protected static IdempotencyDigest Digest() => new(RandomNumberGenerator.GetBytes(IdempotencyDigest.Size));

    protected static IdempotencyClaimRequest Request(IdempotencyDigest? key = null, IdempotencyDigest? fingerprint = null, IdempotencyDigest? previous = null) => new()
    {
        Key = key ?? Digest(),
        PreviousKey = previous,
        Fingerprint = fingerprint ?? Digest(),
        Lease = Lease,
        Retention = Retention,
    };

    protected static string NewEffect() => Guid.NewGuid().ToString();

    protected static async Task AffectAsync(string effect, DbTransaction transaction)
    {
        await using DbCommand command = transaction.Connection!.CreateCommand();
        command.Transaction = transaction;
        command.CommandText = "INSERT INTO effects (name) VALUES (@name)";
        AddName(command, effect);
        await command.ExecuteNonQueryAsync();
    }

    protected async Task<int> CountAsync(string effect)
    {
        await using DbConnection connection = await ConnectAsync();
        await using DbCommand command = connection.CreateCommand();
        command.CommandText = "SELECT count(*) FROM effects WHERE name = @name";
        AddName(command, effect);
        return Convert.ToInt32(await command.ExecuteScalarAsync(), System.Globalization.CultureInfo.InvariantCulture);
    }

    private static void AddName(DbCommand command, string name)
    {
        DbParameter parameter = command.CreateParameter();
        parameter.ParameterName = "@name";
        parameter.Value = name;
        command.Parameters.Add(parameter);
    }

    private static async Task<string> RunAsync(IdempotentExecutor executor, DbConnection connection, string effect, bool fails = false) =>
        await executor.ExecuteInTransactionAsync(effect, Content, connection, async (transaction, _, _) =>
        {
            await AffectAsync(effect, transaction);
            return fails ? throw new IOException("no") : Guid.NewGuid().ToString();
        }, ConformanceJson.Default.String);

    private IdempotentExecutor Executor() => new(_store, new IdempotencyOptions { Name = "conformance", Lease = Lease, Retention = Retention, MaxWait = Patience });

    private async Task<DbConnection> OpenAsync()
    {
        DbConnection connection = await ConnectAsync();
        _connections.Add(connection);
        return connection;
    }

    private async Task<DbTransaction> BeginAsync() => await _store.BeginTransactionAsync(await OpenAsync(), Patience);

    private ValueTask<IdempotencyClaim> ClaimAsync(IdempotencyClaimRequest request, DbTransaction transaction) =>
        _store.ClaimAsync(request, transaction, DuplicatePolicy.WaitAndReplay, Patience);

    /// <summary>In a transaction of its own, on a thread of its own as some drivers block, rolled back at the end.</summary>
    private Task<IdempotencyClaim> DuplicateAsync(IdempotencyClaimRequest request, TimeSpan lockTimeout, DuplicatePolicy duplicates = DuplicatePolicy.WaitAndReplay) => Task.Run(async () =>
    {
        await using DbConnection connection = await ConnectAsync();
        await using DbTransaction transaction = await _store.BeginTransactionAsync(connection, lockTimeout);
        IdempotencyClaim claim = await _store.ClaimAsync(request, transaction, duplicates, lockTimeout);
        await transaction.RollbackAsync();
        return claim;
    });

    private async Task CompleteAsync(IdempotencyClaimRequest request, int status)
    {
        IdempotencyClaim claim = await _store.BeginAsync(request);
        (await _store.CompleteAsync(claim.Key, claim.Fence, new IdempotencyOutcome(status, Content), Retention)).Should().BeTrue();
    }

    private async Task ReplaysAsync(IdempotencyClaimRequest request, int status)
    {
        IdempotencyClaim replay = await _store.BeginAsync(request);
        (replay.Status, replay.Outcome!.Status).Should().Be((IdempotencyClaimStatus.Completed, status));
        replay.Outcome.Content.ToArray().Should().Equal(Content);
    }

    /// <summary>Time to get where it waits; on a slow machine it may not be there yet, and the test then says less, but nothing wrong.</summary>
    private static Task LetItWaitAsync(Task waiting) => Task.WhenAny(waiting, Task.Delay(TimeSpan.FromMilliseconds(300), TimeProvider.System));

    [JsonSerializable(typeof(string))]
    private sealed partial class ConformanceJson : JsonSerializerContext;

    private sealed class ForeignTransaction(ForeignConnection connection) : DbTransaction
    {
        public override IsolationLevel IsolationLevel => IsolationLevel.ReadCommitted;

        protected override DbConnection DbConnection => connection;

        public override void Commit()
        {
        }

        public override void Rollback()
        {
        }
    }

    private sealed class ForeignConnection : DbConnection
    {
        [AllowNull]
        public override string ConnectionString { get; set; } = "";

        public override string Database => "";

        public override string DataSource => "";

        public override string ServerVersion => "";

        public override ConnectionState State => ConnectionState.Open;

        public override void ChangeDatabase(string databaseName) => throw new NotSupportedException();

        public override void Close() => throw new NotSupportedException();

        public override void Open() => throw new NotSupportedException();

        protected override DbTransaction BeginDbTransaction(IsolationLevel isolationLevel) => new ForeignTransaction(this);

        protected override DbCommand CreateDbCommand() => throw new NotSupportedException();
    }
}
