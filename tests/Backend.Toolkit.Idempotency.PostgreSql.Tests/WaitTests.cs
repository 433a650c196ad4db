using Microsoft.Extensions.Time.Testing;
using Npgsql;
using static Backend.Toolkit.Idempotency.PostgreSql.Tests.Stores;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

public sealed class WaitTests(Database database)
{
    private static TimeSpan Forever { get; } = TimeSpan.FromMinutes(10);

    [Fact]
    public async Task A_run_that_nobody_waits_for_notifies_nobody()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore();
        int heard = 0;
        await using NpgsqlConnection connection = await ListenAsync(store, () => heard++);
        IdempotencyClaim quiet = await store.BeginAsync(Request()), awaited = await store.BeginAsync(Request());
        Task wait = store.WaitAsync(awaited.Key, awaited.Fence, Forever).AsTask();
        await UntilAwaitedAsync(database.Source, store);

        await store.CompleteAsync(quiet.Key, quiet.Fence, Outcome, Retention);
        await store.CompleteAsync(awaited.Key, awaited.Fence, Outcome, Retention);

        await wait.WaitAsync(Patience, TimeProvider.System);

        // What was sent before comes ahead of an answer.
        await using var ask = new NpgsqlCommand("SELECT 1", connection);
        await ask.ExecuteScalarAsync();
        heard.Should().Be(1);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Who_waits_on_one_node_is_woken_by_another(bool abandons)
    {
        string table = NewTable();

        // By whose clock no time passes, so that it does not look by itself.
        await using PostgreSqlIdempotencyStore one = database.CreateStore(o => o.Table = table), other = database.CreateStore(o => o.Table = table, new FakeTimeProvider());
        IdempotencyClaim claim = await one.BeginAsync(Request());
        await one.SavePhaseAsync(claim.Key, claim.Fence, "charge", Content);
        Task wait = other.WaitAsync(claim.Key, claim.Fence, Forever).AsTask();
        await UntilAwaitedAsync(database.Source, one);

        await (abandons ? one.AbandonAsync(claim.Key, claim.Fence) : one.CompleteAsync(claim.Key, claim.Fence, Outcome, Retention));

        await wait.WaitAsync(Patience, TimeProvider.System);
    }

    [Fact]
    public async Task A_listening_connection_that_breaks_wakes_who_waits_and_the_next_makes_another()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore(time: new FakeTimeProvider());
        IdempotencyClaim claim = await store.BeginAsync(Request());
        Task wait = store.WaitAsync(claim.Key, claim.Fence, Forever).AsTask();
        await UntilAwaitedAsync(database.Source, store);
        string channel = new Statements("public", TableOf(store)["public.".Length..]).Channel;

        await ExecuteAsync(database.Source, $"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN {channel}'");

        await wait.WaitAsync(Patience, TimeProvider.System);
        Task again = store.WaitAsync(claim.Key, claim.Fence, Forever).AsTask();
        await Task.WhenAny(again, Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System));
        again.IsCompleted.Should().BeFalse();
        await store.CompleteAsync(claim.Key, claim.Fence, Outcome, Retention);
        await again.WaitAsync(Patience, TimeProvider.System);
    }

    [Fact]
    public async Task A_notification_that_gets_lost_only_costs_time()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore();
        IdempotencyClaim claim = await store.BeginAsync(Request());
        Task wait = store.WaitAsync(claim.Key, claim.Fence, Forever).AsTask();
        await UntilAwaitedAsync(database.Source, store);

        await ExecuteAsync(database.Source, $"UPDATE {TableOf(store)} SET state = 1, status = 200");

        await wait.WaitAsync(Patience, TimeProvider.System);
    }

    [Fact]
    public async Task Without_listening_it_asks_again_and_again()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore(o => o.Listen = false);
        IdempotencyClaim claim = await store.BeginAsync(Request());
        Task wait = store.WaitAsync(claim.Key, claim.Fence, Forever).AsTask();
        Task brief = store.WaitAsync(claim.Key, claim.Fence, TimeSpan.FromMilliseconds(100)).AsTask();
        await brief.WaitAsync(Patience, TimeProvider.System);
        bool waited = !wait.IsCompleted;

        await store.CompleteAsync(claim.Key, claim.Fence, Outcome, Retention);

        waited.Should().BeTrue();
        await wait.WaitAsync(Patience, TimeProvider.System);
        (await ScalarAsync<bool>(database.Source, $"SELECT bool_or(awaited) FROM {TableOf(store)}")).Should().BeFalse();
    }

    [Fact]
    public async Task A_store_that_is_disposed_of_ends_its_waits()
    {
        PostgreSqlIdempotencyStore store = database.CreateStore();
        IdempotencyClaim claim = await store.BeginAsync(Request());
        Task wait = store.WaitAsync(claim.Key, claim.Fence, Forever).AsTask();
        await UntilAwaitedAsync(database.Source, store);

        await store.DisposeAsync();
        await store.DisposeAsync();

        Func<Task> ended = () => wait.WaitAsync(Patience, TimeProvider.System);
        await ended.Should().ThrowAsync<IdempotencyStoreException>().WithMessage("*disposed*");
    }

    [Fact]
    public async Task A_wait_behind_a_transaction_that_is_ending_the_run_ends_with_it_or_with_its_time()
    {
        string table = NewTable();

        // By whose clock no time passes, so that it does not look again by itself.
        await using PostgreSqlIdempotencyStore store = database.CreateStore(o => o.Table = table), patient = database.CreateStore(o => o.Table = table, new FakeTimeProvider());
        IdempotencyClaim claim = await store.BeginAsync(Request());
        await using NpgsqlConnection connection = await database.Source.OpenConnectionAsync();
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync();
        await store.CompleteAsync(claim.Key, claim.Fence, Outcome, Retention, transaction);
        Task wait = patient.WaitAsync(claim.Key, claim.Fence, Forever).AsTask();

        await store.WaitAsync(claim.Key, claim.Fence, TimeSpan.FromMilliseconds(500)).AsTask().WaitAsync(Patience, TimeProvider.System);
        bool waited = !wait.IsCompleted;
        await transaction.CommitAsync();

        await wait.WaitAsync(Patience, TimeProvider.System);
        waited.Should().BeTrue();
    }

    private async Task<NpgsqlConnection> ListenAsync(PostgreSqlIdempotencyStore store, Action heard)
    {
        NpgsqlConnection connection = await database.Source.OpenConnectionAsync();
        connection.Notification += (_, _) => heard();
        await using var command = new NpgsqlCommand($"LISTEN {new Statements("public", TableOf(store)["public.".Length..]).Channel}", connection);
        await command.ExecuteNonQueryAsync();
        return connection;
    }
}
