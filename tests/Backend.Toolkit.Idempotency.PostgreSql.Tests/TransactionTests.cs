using System.Data;
using System.Data.Common;
using Dapper;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Storage;
using Npgsql;
using static Backend.Toolkit.Idempotency.PostgreSql.Tests.Stores;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

/// <summary>What is of PostgreSQL in transaction mode; the rest is in the conformance suite.</summary>
public sealed class TransactionTests : IAsyncLifetime
{
    private readonly Database _database;
    private PostgreSqlIdempotencyStore _store = null!;
    private NpgsqlConnection _connection = null!;

    public TransactionTests(Database database) => _database = database;

    public async ValueTask InitializeAsync()
    {
        _store = _database.CreateStore();
        _connection = await _database.Source.OpenConnectionAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await _connection.DisposeAsync();
        await _store.DisposeAsync();
    }

    [Theory]
    [InlineData("1234ms")]
    [InlineData("0")]
    public async Task The_callers_lock_timeout_holds_again_for_its_own_statements(string timeout)
    {
        IdempotencyClaimRequest done = Request(), single = Request(), pair = Request(previous: Digest());
        IdempotencyClaim first = await _store.BeginAsync(done);
        await _store.CompleteAsync(first.Key, first.Fence, Outcome, Retention);
        await using DbTransaction transaction = await _store.BeginTransactionAsync(_connection, Patience);
        await _connection.ExecuteAsync($"SET LOCAL lock_timeout = '{timeout}'");
        string before = await SettingAsync();
        List<string> after = [];

        foreach (IdempotencyClaimRequest request in new[] { done, single, pair })
        {
            await _store.ClaimAsync(request, transaction);
            after.Add(await SettingAsync());
        }

        await transaction.RollbackAsync();
        after.Should().AllBe(before);
        (await SettingAsync()).Should().Be("0");

        async Task<string> SettingAsync() => (await _connection.ExecuteScalarAsync<string>("SHOW lock_timeout"))!;
    }

    [Fact]
    public async Task The_lock_timeout_of_the_claim_ends_the_wait_and_not_that_of_the_session()
    {
        IdempotencyClaimRequest request = Request();
        await using DbTransaction owner = await _store.BeginTransactionAsync(_connection, Patience);
        await _store.ClaimAsync(request, owner);
        await using NpgsqlConnection other = await _database.Source.OpenConnectionAsync();
        await using DbTransaction transaction = await _store.BeginTransactionAsync(other, Patience);
        await other.ExecuteAsync("SET LOCAL lock_timeout = '1ms'");
        long start = TimeProvider.System.GetTimestamp();

        IdempotencyClaim claim = await _store.ClaimAsync(request, transaction, DuplicatePolicy.WaitAndReplay, TimeSpan.FromMilliseconds(300));

        (claim.Status, claim.Fence).Should().Be((IdempotencyClaimStatus.InProgress, 0));
        TimeProvider.System.GetElapsedTime(start).Should().BeGreaterThan(TimeSpan.FromMilliseconds(250));
    }

    [Fact]
    public async Task A_statement_timeout_that_is_shorter_than_the_wait_is_the_end_of_the_wait()
    {
        IdempotencyClaimRequest request = Request();
        await using DbTransaction owner = await _store.BeginTransactionAsync(_connection, Patience);
        await _store.ClaimAsync(request, owner);
        await using NpgsqlConnection other = await _database.Source.OpenConnectionAsync();
        await using DbTransaction transaction = await _store.BeginTransactionAsync(other, Patience);
        await other.ExecuteAsync("SET LOCAL statement_timeout = '100ms'");

        IdempotencyClaim claim = await _store.ClaimAsync(request, transaction);

        claim.Status.Should().Be(IdempotencyClaimStatus.InProgress);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Reject_does_not_wait_also_for_an_owner_that_would_have(bool isPair)
    {
        IdempotencyClaimRequest request = Request(previous: isPair ? Digest() : null);
        IdempotencyClaimRequest turned = isPair ? Request(request.PreviousKey, request.Fingerprint, request.Key) : request;
        await using DbTransaction owner = await _store.BeginTransactionAsync(_connection, Patience);
        await _store.ClaimAsync(request, owner);
        await using NpgsqlConnection other = await _database.Source.OpenConnectionAsync();
        await using DbTransaction transaction = await _store.BeginTransactionAsync(other, Patience);

        Task<IdempotencyClaim> claim = _store.ClaimAsync(turned, transaction, DuplicatePolicy.Reject, TimeSpan.FromMinutes(10)).AsTask();

        (await claim.WaitAsync(Patience, TimeProvider.System)).Status.Should().Be(IdempotencyClaimStatus.InProgress);
    }

    [Fact]
    public async Task Reject_replays_what_is_completed_and_starts_what_is_not_there()
    {
        IdempotencyClaimRequest request = Request();
        await using (DbTransaction transaction = await _store.BeginTransactionAsync(_connection, Patience))
        {
            IdempotencyClaim claim = await _store.ClaimAsync(request, transaction, DuplicatePolicy.Reject);
            claim.Status.Should().Be(IdempotencyClaimStatus.Started);
            await _store.CompleteAndCommitAsync(claim.Key, claim.Fence, Outcome, Retention, transaction);
        }

        await using DbTransaction repeat = await _store.BeginTransactionAsync(_connection, Patience);

        (await _store.ClaimAsync(request, repeat, DuplicatePolicy.Reject)).Status.Should().Be(IdempotencyClaimStatus.Completed);
    }

    [Fact]
    public async Task Keys_that_begin_alike_share_an_advisory_lock_and_nothing_else()
    {
        byte[] bytes = Digest().ToArray();
        bytes[31] ^= 1;
        IdempotencyDigest one = new(bytes);
        bytes[31] ^= 1;
        IdempotencyDigest other = new(bytes);
        await using DbTransaction owner = await _store.BeginTransactionAsync(_connection, Patience);
        await _store.ClaimAsync(Request(one), owner);
        await using NpgsqlConnection connection = await _database.Source.OpenConnectionAsync();
        await using DbTransaction transaction = await _store.BeginTransactionAsync(connection, Patience);

        IdempotencyClaim rejected = await _store.ClaimAsync(Request(other), transaction, DuplicatePolicy.Reject);
        IdempotencyClaim waited = await _store.ClaimAsync(Request(other), transaction);

        (rejected.Status, waited.Status).Should().Be((IdempotencyClaimStatus.InProgress, IdempotencyClaimStatus.Started));
    }

    [Theory]
    [InlineData(IsolationLevel.RepeatableRead)]
    [InlineData(IsolationLevel.Serializable)]
    public async Task A_claim_needs_read_committed(IsolationLevel level)
    {
        await using NpgsqlTransaction transaction = await _connection.BeginTransactionAsync(level);

        Func<Task> claim = async () => await _store.ClaimAsync(Request(), transaction);

        await claim.Should().ThrowAsync<ArgumentException>().WithMessage($"*read committed*{level}*");
    }

    [Fact]
    public async Task A_deadlock_of_a_claim_with_what_the_transactions_did_before_is_in_progress_for_one_of_them()
    {
        IdempotencyClaimRequest one = Request(), other = Request();
        await using NpgsqlConnection connection = await _database.Source.OpenConnectionAsync();
        await using DbTransaction left = await _store.BeginTransactionAsync(_connection, Patience);
        await using DbTransaction right = await _store.BeginTransactionAsync(connection, Patience);
        await _store.ClaimAsync(one, left);
        await _store.ClaimAsync(other, right);

        Task<IdempotencyClaim> first = ThenRollBackAsync(other, left);
        Task<IdempotencyClaim> second = ThenRollBackAsync(one, right);

        IdempotencyClaim[] claims = await Task.WhenAll(first, second);
        claims.Select(claim => claim.Status).Should().BeEquivalentTo([IdempotencyClaimStatus.InProgress, IdempotencyClaimStatus.Started]);

        async Task<IdempotencyClaim> ThenRollBackAsync(IdempotencyClaimRequest request, DbTransaction transaction)
        {
            IdempotencyClaim claim = await _store.ClaimAsync(request, transaction);
            await transaction.RollbackAsync();
            return claim;
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_claim_in_lease_mode_does_not_wait_long_for_a_transaction(bool isPair)
    {
        IdempotencyClaimRequest request = Request(previous: isPair ? Digest() : null);
        await using DbTransaction transaction = await _store.BeginTransactionAsync(_connection, Patience);
        await _store.ClaimAsync(request, transaction);

        IdempotencyClaim duplicate = await _store.BeginAsync(request).AsTask().WaitAsync(Patience, TimeProvider.System);

        (duplicate.Status, duplicate.Fence).Should().Be((IdempotencyClaimStatus.InProgress, 0));
    }

    [Fact]
    public async Task A_commit_that_the_database_refuses_comes_out_as_what_it_is_and_commits_nothing()
    {
        IdempotencyClaimRequest request = Request();
        string table = NewTable();
        await ExecuteAsync(_database.Source, $"CREATE TABLE {table} (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
        DbTransaction transaction = await _store.BeginTransactionAsync(_connection, Patience);
        IdempotencyClaim claim = await _store.ClaimAsync(request, transaction);
        await _connection.ExecuteAsync($"INSERT INTO {table} VALUES (1), (1)", transaction: transaction);

        Func<Task> commit = async () => await _store.CompleteAndCommitAsync(claim.Key, claim.Fence, Outcome, Retention, transaction);

        (await commit.Should().ThrowAsync<PostgresException>()).Which.SqlState.Should().Be(PostgresErrorCodes.UniqueViolation);
        await transaction.DisposeAsync();
        (await _store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Started);
        (await _connection.ExecuteScalarAsync<int>($"SELECT count(*) FROM {table}")).Should().Be(0);
    }

    [Fact]
    public async Task A_transaction_in_which_a_statement_failed_is_not_committed_as_a_success()
    {
        IdempotencyClaimRequest request = Request();
        DbTransaction transaction = await _store.BeginTransactionAsync(_connection, Patience);
        IdempotencyClaim claim = await _store.ClaimAsync(request, transaction);
        Func<Task> swallowed = () => _connection.ExecuteAsync("SELECT 1 / 0", transaction: transaction);
        await swallowed.Should().ThrowAsync<PostgresException>();

        Func<Task> commit = async () => await _store.CompleteAndCommitAsync(claim.Key, claim.Fence, Outcome, Retention, transaction);

        await commit.Should().ThrowAsync<IdempotencyStoreException>();
        await transaction.RollbackAsync();
        await transaction.DisposeAsync();
        (await _store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Started);
    }

    [Fact]
    public async Task Dapper_writes_in_the_transaction()
    {
        var executor = new IdempotentExecutor(_store, new IdempotencyOptions { Name = "dapper" });
        string effect = Guid.NewGuid().ToString();
        async Task<string> RunAsync() => await executor.ExecuteInTransactionAsync(effect, Content, _connection, async (transaction, _, _) =>
        {
            await transaction.Connection!.ExecuteAsync("INSERT INTO effects (name) VALUES (@effect)", new { effect }, transaction);
            return Guid.NewGuid().ToString();
        }, StringJson.Default.String);

        string first = await RunAsync();
        string second = await RunAsync();

        second.Should().Be(first);
        (await _connection.ExecuteScalarAsync<int>("SELECT count(*) FROM effects WHERE name = @effect", new { effect })).Should().Be(1);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task EF_Core_writes_in_the_transaction_of_the_operation(bool retries)
    {
        var executor = new IdempotentExecutor(_store, new IdempotencyOptions { Name = "ef" });
        string effect = Guid.NewGuid().ToString();
        async Task<string> RunAsync()
        {
            await using var context = new EffectContext(_database.Source, retries);
            return await context.Database.CreateExecutionStrategy().ExecuteAsync(async () => await executor.ExecuteInTransactionAsync(effect, Content, context.Database.GetDbConnection(), async (transaction, _, token) =>
            {
                await context.Database.UseTransactionAsync(transaction, token);
                context.Add(new Effect { Name = effect });
                await context.SaveChangesAsync(token);
                return Guid.NewGuid().ToString();
            }, StringJson.Default.String));
        }

        string first = await RunAsync();
        string second = await RunAsync();

        second.Should().Be(first);
        (await _connection.ExecuteScalarAsync<int>("SELECT count(*) FROM effects WHERE name = @effect", new { effect })).Should().Be(1);
    }

    [Fact]
    public async Task A_transaction_that_EF_Core_began_is_given_by_its_own()
    {
        IdempotencyClaimRequest request = Request();
        string effect = Guid.NewGuid().ToString();
        await using var context = new EffectContext(_database.Source);
        await using (IDbContextTransaction transaction = await context.Database.BeginTransactionAsync())
        {
            IdempotencyClaim claim = await _store.ClaimAsync(request, transaction.GetDbTransaction());
            context.Add(new Effect { Name = effect });
            await context.SaveChangesAsync();
            await _store.CompleteAsync(claim.Key, claim.Fence, Outcome, Retention, transaction.GetDbTransaction());

            await transaction.CommitAsync();
        }

        (await _store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Completed);
        (await _connection.ExecuteScalarAsync<int>("SELECT count(*) FROM effects WHERE name = @effect", new { effect })).Should().Be(1);
    }

    [Fact]
    public async Task Without_preparing_all_is_the_same()
    {
        await using PostgreSqlIdempotencyStore store = _database.CreateStore(o => o.Prepare = false);
        IdempotencyClaimRequest request = Request();
        DbTransaction transaction = await store.BeginTransactionAsync(_connection, Patience);
        IdempotencyClaim claim = await store.ClaimAsync(request, transaction);

        bool committed = await store.CompleteAndCommitAsync(claim.Key, claim.Fence, Outcome, Retention, transaction);

        await transaction.DisposeAsync();
        committed.Should().BeTrue();
        (await store.BeginAsync(request)).Outcome!.Content.ToArray().Should().Equal(Content);
        (await _connection.ExecuteScalarAsync<int>("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%' || @table || '%'", new { table = TableOf(store) })).Should().Be(0);
    }

    [Fact]
    public async Task Reject_hardly_waits_for_an_owner_that_waited_before()
    {
        IdempotencyClaimRequest request = Request();
        await using NpgsqlConnection second = await _database.Source.OpenConnectionAsync(), third = await _database.Source.OpenConnectionAsync();
        await using DbTransaction former = await _store.BeginTransactionAsync(_connection, Patience);
        await _store.ClaimAsync(request, former);
        await using DbTransaction owner = await _store.BeginTransactionAsync(second, Patience);
        Task<IdempotencyClaim> waits = _store.ClaimAsync(request, owner).AsTask();
        using var limit = new CancellationTokenSource(Patience, TimeProvider.System);
        while (!await ScalarAsync<bool>(_database.Source, $"SELECT EXISTS (SELECT FROM pg_locks WHERE pid = {second.ProcessID} AND NOT granted)"))
        {
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System, limit.Token);
        }

        await former.RollbackAsync();
        IdempotencyClaim owned = await waits;
        await using DbTransaction rejected = await _store.BeginTransactionAsync(third, Patience);
        Task<IdempotencyClaim> claim = _store.ClaimAsync(request, rejected, DuplicatePolicy.Reject, TimeSpan.FromMinutes(10)).AsTask();

        owned.Status.Should().Be(IdempotencyClaimStatus.Started);
        (await claim.WaitAsync(TimeSpan.FromSeconds(10), TimeProvider.System)).Status.Should().Be(IdempotencyClaimStatus.InProgress);
    }

    [Fact]
    public async Task A_wait_may_be_as_long_as_there_is_a_number_for()
    {
        await using DbTransaction transaction = await _store.BeginTransactionAsync(_connection, TimeSpan.MaxValue);

        IdempotencyClaim claim = await _store.ClaimAsync(Request(), transaction, DuplicatePolicy.WaitAndReplay, TimeSpan.MaxValue);

        claim.Status.Should().Be(IdempotencyClaimStatus.Started);
    }

    [Fact]
    public async Task A_command_timeout_that_is_shorter_than_the_wait_does_not_break_the_connection()
    {
        IdempotencyClaimRequest request = Request();
        await using DbTransaction owner = await _store.BeginTransactionAsync(_connection, Patience);
        await _store.ClaimAsync(request, owner);
        await using NpgsqlDataSource source = NpgsqlDataSource.Create($"{_database.ConnectionString};Command Timeout=1");
        await using NpgsqlConnection other = await source.OpenConnectionAsync();
        await using DbTransaction transaction = await _store.BeginTransactionAsync(other, Patience);

        IdempotencyClaim claim = await _store.ClaimAsync(request, transaction, DuplicatePolicy.WaitAndReplay, TimeSpan.FromMilliseconds(1400));

        claim.Status.Should().Be(IdempotencyClaimStatus.InProgress);
    }
}
