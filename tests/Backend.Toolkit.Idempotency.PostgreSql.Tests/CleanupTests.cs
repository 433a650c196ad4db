using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;
using Npgsql;
using static Backend.Toolkit.Idempotency.PostgreSql.Tests.Stores;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

public sealed class CleanupTests(Database database)
{
    private static TimeSpan Expired { get; } = Retention + TimeSpan.FromMinutes(2);

    [Fact]
    public async Task Expired_records_are_deleted_in_batches_and_live_ones_are_not()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore(o => o.CleanupBatch = 7);
        await FillAsync(store, 20);
        await ShiftAsync(store, Expired);
        IdempotencyClaimRequest live = Request();
        await store.BeginAsync(live);

        int deleted = await store.CleanUpAsync();

        deleted.Should().Be(20);
        (await CountAsync(store)).Should().Be(1);
        (await store.BeginAsync(live)).Status.Should().Be(IdempotencyClaimStatus.InProgress);
    }

    [Fact]
    public async Task A_record_is_not_deleted_before_it_has_expired_whatever_the_index_says()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore();
        await FillAsync(store, 1);
        await ExecuteAsync(database.Source, $"UPDATE {TableOf(store)} SET cleanup_at = cleanup_at - interval '48 hours'");

        int deleted = await store.CleanUpAsync();

        deleted.Should().Be(0);
    }

    [Fact]
    public async Task A_record_that_another_transaction_is_taking_over_is_passed_over()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore();
        IdempotencyClaimRequest request = Request();
        await store.BeginAsync(request);
        await FillAsync(store, 5);
        await ShiftAsync(store, Expired);
        await using NpgsqlConnection connection = await database.Source.OpenConnectionAsync();
        await using var transaction = await store.BeginTransactionAsync(connection, Patience);
        IdempotencyClaim claim = await store.ClaimAsync(request, transaction);

        int deleted = await store.CleanUpAsync();
        bool committed = await store.CompleteAndCommitAsync(claim.Key, claim.Fence, Outcome, Retention, transaction);

        (deleted, committed).Should().Be((5, true));
        (await store.CleanUpAsync()).Should().Be(0);
        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Completed);
    }

    [Fact]
    public async Task Nodes_that_clean_at_once_share_the_work()
    {
        string table = NewTable();
        PostgreSqlIdempotencyStore[] nodes = [.. Enumerable.Range(0, 4).Select(_ => database.CreateStore(o => (o.Table, o.CleanupBatch) = (table, 10)))];
        await FillAsync(nodes[0], 200);
        await ShiftAsync(nodes[0], Expired);

        int[] deleted = await Task.WhenAll(nodes.Select(node => Task.Run(async () => await node.CleanUpAsync())));

        deleted.Sum().Should().Be(200);
        foreach (PostgreSqlIdempotencyStore node in nodes)
        {
            await node.DisposeAsync();
        }
    }

    [Fact]
    public async Task It_is_done_by_a_timer_again_and_again_and_in_another_interval_after_a_reload()
    {
        var time = new FakeTimeProvider();
        PostgreSqlIdempotencyStoreOptions? used = null;
        await using PostgreSqlIdempotencyStore store = database.CreateStore(o => (used = o).CleanupInterval = TimeSpan.FromMinutes(1), time);
        for (int round = 0; round < 2; round++)
        {
            await FillAsync(store, 3);
            await ShiftAsync(store, Expired);
            time.Advance(TimeSpan.FromSeconds(44));
            long early = await CountAsync(store);
            time.Advance(TimeSpan.FromSeconds(32));
            await store.Cleaning;
            (early, await CountAsync(store)).Should().Be((3, 0));
        }

        used!.CleanupInterval = TimeSpan.FromHours(1);
        store.Update(used);
        await FillAsync(store, 1);
        await ShiftAsync(store, Expired);
        time.Advance(TimeSpan.FromMinutes(44));
        long beforeTheHour = await CountAsync(store);
        time.Advance(TimeSpan.FromMinutes(32));

        await store.Cleaning;
        (beforeTheHour, await CountAsync(store)).Should().Be((1, 0));
    }

    [Fact]
    public async Task A_cleanup_that_fails_is_told_once_until_it_works_again()
    {
        var time = new FakeTimeProvider();
        var log = new LogList();
        string table = NewTable();
        await using PostgreSqlIdempotencyStore store = Create(database.Source, o => (o.Table, o.CleanupInterval, o.CreateSchema) = (table, TimeSpan.FromMinutes(1), false), time, log);
        await RoundAsync();
        await RoundAsync();
        int first = log.Entries.Length;
        await ExecuteAsync(database.Source, PostgreSqlIdempotencyStore.Script(table: table));
        await FillAsync(store, 1);
        await ShiftAsync(store, Expired);
        await RoundAsync();
        long left = await CountAsync(store);
        await ExecuteAsync(database.Source, $"DROP TABLE {table}");

        await RoundAsync();

        (first, left).Should().Be((1, 0));
        log.Entries.Should().HaveCount(2).And.OnlyContain(entry => entry.Level == LogLevel.Warning && entry.Message.Contains("'tests'"));

        async Task RoundAsync()
        {
            time.Advance(TimeSpan.FromSeconds(76));
            await store.Cleaning;
        }
    }

    private static async Task FillAsync(PostgreSqlIdempotencyStore store, int records)
    {
        for (int i = 0; i < records; i++)
        {
            IdempotencyClaim claim = await store.BeginAsync(Request());
            await store.CompleteAsync(claim.Key, claim.Fence, Outcome, Retention);
        }
    }

    private Task<long> CountAsync(PostgreSqlIdempotencyStore store) => ScalarAsync<long>(database.Source, $"SELECT count(*) FROM {TableOf(store)}");
}
