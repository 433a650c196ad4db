using System.Data.Common;
using System.Text.Json.Serialization;
using Dapper;
using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Storage;
using Microsoft.Extensions.Time.Testing;
using static Backend.Toolkit.Idempotency.Sqlite.Tests.Database;

namespace Backend.Toolkit.Idempotency.Sqlite.Tests;

/// <summary>Transaction mode as callers have it, and the one writer's lock.</summary>
public sealed partial class TransactionTests : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private readonly Database _database = new();

    public ValueTask DisposeAsync() => _database.DisposeAsync();

    [Fact]
    public async Task Dapper_and_EF_Core_write_in_the_transaction_of_the_claim()
    {
        SqliteIdempotencyStore store = _database.CreateStore();
        var executor = new IdempotentExecutor(store, new IdempotencyOptions { Name = "orders" });
        await using SqliteConnection connection = _database.Connect();
        async Task<string> RunAsync(bool fails) => await executor.ExecuteInTransactionAsync("key", default, connection, async (transaction, _, token) =>
        {
            await connection.ExecuteAsync("INSERT INTO effects (name) VALUES (@name)", new { name = "dapper" }, transaction);
            await using var shop = new Shop(connection);
            await shop.Database.UseTransactionAsync(transaction, token);
            shop.Effects.Add(new Effect { Name = "ef" });
            await shop.SaveChangesAsync(token);
            return fails ? throw new IOException("no") : "done";
        }, TransactionJson.Default.String);

        await ((Func<Task>)(() => RunAsync(fails: true))).Should().ThrowAsync<IOException>();
        long afterFailure = _database.Count("effects");
        string[] answers = [await RunAsync(fails: false), await RunAsync(fails: false)];

        afterFailure.Should().Be(0);
        answers.Should().Equal("done", "done");
        _database.Count("effects").Should().Be(2);
    }

    [Fact]
    public async Task A_transaction_that_EF_Core_began_takes_claim_and_outcome()
    {
        SqliteIdempotencyStore store = _database.CreateStore();
        IdempotencyClaimRequest request = Request();
        await using SqliteConnection connection = _database.Connect();
        await using var shop = new Shop(connection);
        await store.BeginAsync(Request());
        await using IDbContextTransaction transaction = await shop.Database.BeginTransactionAsync(TestContext.Current.CancellationToken);

        IdempotencyClaim claim = await store.ClaimAsync(request, transaction.GetDbTransaction(), DuplicatePolicy.WaitAndReplay, Patience);
        shop.Effects.Add(new Effect { Name = "ef" });
        await shop.SaveChangesAsync(TestContext.Current.CancellationToken);
        bool completed = await store.CompleteAsync(claim.Key, claim.Fence, Outcome(201), TimeSpan.FromHours(1), transaction.GetDbTransaction());
        await transaction.CommitAsync(TestContext.Current.CancellationToken);

        completed.Should().BeTrue();
        (await store.BeginAsync(request)).Outcome!.Status.Should().Be(201);
        _database.Count("effects").Should().Be(1);
    }

    [Fact]
    public async Task A_transaction_that_began_before_the_tables_were_there_is_told_so_at_once()
    {
        // Time stands still: whoever waited for the lock would wait for ever, as the caller has it.
        SqliteIdempotencyStore store = _database.CreateStore(time: new FakeTimeProvider());
        await using SqliteConnection connection = _database.Connect();
        await using (SqliteTransaction transaction = connection.BeginTransaction())
        {
            Func<Task> claim = async () => await store.ClaimAsync(Request(), transaction, DuplicatePolicy.WaitAndReplay, Patience);
            (await claim.Should().ThrowAsync<IdempotencyStoreException>()).Which.Message.Should().Contain("Script");
        }

        await using DbTransaction own = await store.BeginTransactionAsync(connection, Patience);
        (await store.ClaimAsync(Request(), own, DuplicatePolicy.WaitAndReplay, Patience)).Status.Should().Be(IdempotencyClaimStatus.Started);
    }

    [Fact]
    public async Task A_transaction_has_the_writers_lock_and_repeats_do_not_wait_for_it()
    {
        // Time stands still: whoever waited would wait for ever.
        SqliteIdempotencyStore store = _database.CreateStore(time: new FakeTimeProvider());
        IdempotencyClaimRequest done = Request(), running = Request();
        IdempotencyClaim claim = await store.BeginAsync(done);
        await store.CompleteAsync(claim.Key, claim.Fence, Outcome(), TimeSpan.FromHours(1));
        await store.BeginAsync(running);
        await using SqliteConnection connection = _database.Connect(), other = _database.Connect();

        await using DbTransaction transaction = await store.BeginTransactionAsync(connection, Patience);
        IdempotencyClaim replay = await store.BeginAsync(done);
        IdempotencyClaim duplicate = await store.BeginAsync(running);
        IdempotencyClaim mismatch = await store.BeginAsync(running with { Fingerprint = Digest() });
        Func<Task> write = () => other.ExecuteAsync("INSERT INTO effects (name) VALUES ('other')", commandTimeout: 1);

        (replay.Status, duplicate.Status, mismatch.Status).Should().Be((IdempotencyClaimStatus.Completed, IdempotencyClaimStatus.InProgress, IdempotencyClaimStatus.Mismatch));
        (await write.Should().ThrowAsync<SqliteException>()).Which.SqliteErrorCode.Should().Be(SQLitePCL.raw.SQLITE_BUSY);
    }

    [Fact]
    public async Task Who_waits_for_the_lock_blocks_no_thread_and_waits_no_longer_than_it_said()
    {
        FakeTimeProvider time = new();
        SqliteIdempotencyStore store = _database.CreateStore(o => o.BusyTimeout = TimeSpan.FromMilliseconds(500), time);
        await store.BeginAsync(Request());
        await using SqliteConnection holder = _database.Connect(), connection = _database.Connect();
        await using DbTransaction transaction = await store.BeginTransactionAsync(holder, Patience);

        Task begin = store.BeginTransactionAsync(connection, TimeSpan.FromMilliseconds(200)).AsTask();
        Task write = store.BeginAsync(Request()).AsTask();
        bool atOnce = begin.IsCompleted || write.IsCompleted;
        await PassAsync(199);
        bool early = begin.IsCompleted || write.IsCompleted;
        await PassAsync(30);
        await ((Func<Task>)(() => begin)).Should().ThrowAsync<IdempotencyStoreException>();
        bool writeWaits = !write.IsCompleted;
        await PassAsync(300);
        await ((Func<Task>)(() => write)).Should().ThrowAsync<IdempotencyStoreException>();
        await transaction.RollbackAsync(TestContext.Current.CancellationToken);

        (atOnce, early, writeWaits).Should().Be((false, false, true));
        (await store.BeginAsync(Request())).Status.Should().Be(IdempotencyClaimStatus.Started);
        await using DbTransaction next = await store.BeginTransactionAsync(connection, Patience);

        async Task PassAsync(int milliseconds)
        {
            for (int i = 0; i < milliseconds; i++)
            {
                time.Advance(TimeSpan.FromMilliseconds(1));
                await Task.Delay(TimeSpan.FromMilliseconds(1), TimeProvider.System);
            }
        }
    }

    [Fact]
    public async Task Those_who_begin_get_the_lock_in_turn_and_a_cancelled_one_leaves_nothing()
    {
        SqliteIdempotencyStore store = _database.CreateStore();
        await using SqliteConnection holder = _database.Connect(), second = _database.Connect(), third = _database.Connect();
        DbTransaction transaction = await store.BeginTransactionAsync(holder, Patience);
        using var cancellation = new CancellationTokenSource();
        Task<DbTransaction> cancelled = store.BeginTransactionAsync(second, Patience, cancellation.Token).AsTask();
        Task<DbTransaction> waiting = store.BeginTransactionAsync(third, Patience).AsTask();

        await cancellation.CancelAsync();
        await ((Func<Task>)(() => cancelled)).Should().ThrowAsync<OperationCanceledException>();
        await transaction.DisposeAsync();
        await using (await waiting)
        {
        }

        await using DbTransaction again = await store.BeginTransactionAsync(second, Patience);
        again.Connection.Should().BeSameAs(second);
    }

    [Fact]
    public async Task A_connection_to_another_file_or_to_none_is_refused()
    {
        SqliteIdempotencyStore store = _database.CreateStore();
        await using Database elsewhere = new();
        await using SqliteConnection other = elsewhere.Connect(), memory = new("Data Source=:memory:"), closed = new(_database.ConnectionString);
        await memory.OpenAsync(TestContext.Current.CancellationToken);
        await using DbTransaction transaction = await other.BeginTransactionAsync(TestContext.Current.CancellationToken);

        foreach (SqliteConnection connection in new[] { other, memory, closed })
        {
            Func<Task> begin = async () => await store.BeginTransactionAsync(connection, Patience);
            await begin.Should().ThrowAsync<ArgumentException>();
        }

        Func<Task> claim = async () => await store.ClaimAsync(Request(), transaction, DuplicatePolicy.WaitAndReplay, Patience);
        (await claim.Should().ThrowAsync<ArgumentException>()).Which.Message.Should().Contain(_database.File);
    }

    [Fact]
    public async Task A_constraint_that_fails_at_the_commit_is_the_applications_and_nothing_is_committed()
    {
        _database.Execute("CREATE TABLE parents (id INTEGER PRIMARY KEY); CREATE TABLE children (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)");
        SqliteIdempotencyStore store = _database.CreateStore();
        IdempotencyClaimRequest request = Request();
        await using SqliteConnection connection = _database.Connect();
        await connection.ExecuteAsync("PRAGMA foreign_keys = ON");
        DbTransaction transaction = await store.BeginTransactionAsync(connection, Patience);
        IdempotencyClaim claim = await store.ClaimAsync(request, transaction, DuplicatePolicy.WaitAndReplay, Patience);
        await connection.ExecuteAsync("INSERT INTO children (parent) VALUES (1)", transaction: transaction);

        Func<Task> commit = async () => await store.CompleteAndCommitAsync(claim.Key, claim.Fence, Outcome(), TimeSpan.FromHours(1), transaction);

        (await commit.Should().ThrowAsync<SqliteException>()).Which.SqliteErrorCode.Should().Be(SQLitePCL.raw.SQLITE_CONSTRAINT);
        await transaction.RollbackAsync(TestContext.Current.CancellationToken);
        await transaction.DisposeAsync();
        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Started);
    }

    [Fact]
    public async Task A_transaction_without_the_lock_that_read_before_another_wrote_is_told_so()
    {
        SqliteIdempotencyStore store = _database.CreateStore();
        await store.BeginAsync(Request());
        await using SqliteConnection connection = _database.Connect();
        await using SqliteTransaction deferred = connection.BeginTransaction(deferred: true);
        await connection.ExecuteScalarAsync<long>("SELECT count(*) FROM effects", transaction: deferred);
        await store.BeginAsync(Request());

        Func<Task> claim = async () => await store.ClaimAsync(Request(), deferred, DuplicatePolicy.WaitAndReplay, TimeSpan.FromSeconds(1));

        await claim.Should().ThrowAsync<IdempotencyStoreException>();
    }

    [Theory]
    [InlineData("INSERT OR ROLLBACK INTO once (id) VALUES (1)")]
    [InlineData("ROLLBACK")]
    public async Task A_transaction_that_SQLite_has_rolled_back_takes_no_outcome(string ends)
    {
        _database.Execute("CREATE TABLE once (id INTEGER PRIMARY KEY); INSERT INTO once (id) VALUES (1)");
        SqliteIdempotencyStore store = _database.CreateStore();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        await using SqliteConnection connection = _database.Connect();
        await using DbTransaction transaction = await store.BeginTransactionAsync(connection, Patience);
        await connection.ExecuteAsync("INSERT INTO effects (name) VALUES ('one')", transaction: transaction);
        await Record.ExceptionAsync(() => connection.ExecuteAsync(ends, transaction: transaction));

        Func<Task> commits = async () => await store.CompleteAndCommitAsync(owner.Key, owner.Fence, Outcome(), Lease, transaction);
        Func<Task> completes = async () => await store.CompleteAsync(owner.Key, owner.Fence, Outcome(), Lease, transaction);

        await commits.Should().ThrowAsync<IdempotencyStoreException>();
        await completes.Should().ThrowAsync<IdempotencyStoreException>();
        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.InProgress);
        _database.Count("effects").Should().Be(0);
    }

    [Fact]
    public async Task Repeats_do_not_wait_where_the_application_shares_a_cache()
    {
        string shared = new SqliteConnectionStringBuilder(_database.ConnectionString) { Cache = SqliteCacheMode.Shared }.ToString();
        SqliteIdempotencyStore store = _database.CreateStore(o => o.ConnectionString = shared);
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim claim = await store.BeginAsync(request);
        await store.CompleteAsync(claim.Key, claim.Fence, Outcome(), Lease);
        await using SqliteConnection connection = new(shared);
        await connection.OpenAsync(TestContext.Current.CancellationToken);
        await using DbTransaction transaction = await store.BeginTransactionAsync(connection, Patience);
        await store.ClaimAsync(Request(), transaction, DuplicatePolicy.WaitAndReplay, Patience);

        IdempotencyClaim repeat = await store.BeginAsync(request);

        repeat.Status.Should().Be(IdempotencyClaimStatus.Completed);
    }

    [Fact]
    public async Task Waits_may_be_as_long_as_there_is_a_number_for()
    {
        SqliteIdempotencyStore store = _database.CreateStore();
        IdempotencyClaim claim = await store.BeginAsync(Request());
        await using SqliteConnection first = _database.Connect(), second = _database.Connect();

        Task waits = store.WaitAsync(claim.Key, claim.Fence, TimeSpan.MaxValue).AsTask();
        await store.AbandonAsync(claim.Key, claim.Fence);
        Task<DbTransaction>[] begin = [.. new[] { first, second }.Select(connection => store.BeginTransactionAsync(connection, TimeSpan.MaxValue).AsTask())];
        await (await begin[0]).DisposeAsync();
        await (await begin[1]).DisposeAsync();

        await waits;
    }

    private sealed class Shop(SqliteConnection connection) : DbContext
    {
        public DbSet<Effect> Effects => Set<Effect>();

        protected override void OnConfiguring(DbContextOptionsBuilder optionsBuilder) => optionsBuilder.UseSqlite(connection);

        protected override void OnModelCreating(ModelBuilder modelBuilder) => modelBuilder.Entity<Effect>(entity =>
        {
            entity.ToTable("effects");
            entity.Property(effect => effect.Name).HasColumnName("name");
            entity.HasKey(effect => effect.Name);
        });
    }

    private sealed class Effect
    {
        public required string Name { get; init; }
    }

    [JsonSerializable(typeof(string))]
    private sealed partial class TransactionJson : JsonSerializerContext;
}
