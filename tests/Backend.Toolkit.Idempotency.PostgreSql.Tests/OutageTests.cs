using System.Data.Common;
using Npgsql;
using static Backend.Toolkit.Idempotency.PostgreSql.Tests.Stores;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

public sealed class OutageTests
{
    [Fact]
    public async Task The_store_works_again_after_a_restart_and_says_so_while_it_is_down()
    {
        await using PostgreSqlCluster cluster = await Cluster.StartAsync();
        await using NpgsqlDataSource source = NpgsqlDataSource.Create(cluster.ConnectionString);
        await using PostgreSqlIdempotencyStore store = Create(source);
        IdempotencyClaimRequest request = Request(), completed = Request();
        IdempotencyClaim owner = await store.BeginAsync(request), other = await store.BeginAsync(completed);
        await store.CompleteAsync(other.Key, other.Fence, Outcome, Retention);
        Task wait = store.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromMinutes(10)).AsTask();
        await UntilAwaitedAsync(source, store);
        await using NpgsqlConnection connection = await source.OpenConnectionAsync();
        await using DbTransaction transaction = await store.BeginTransactionAsync(connection, Patience);
        IdempotencyClaim inTransaction = await store.ClaimAsync(Request(), transaction);

        await cluster.StopAsync();
        Func<Task>[] verbs =
        [
            async () => await store.BeginAsync(Request()),
            async () => await store.RenewAsync(owner.Key, owner.Fence, Lease),
            async () => await store.WaitAsync(owner.Key, owner.Fence, Lease),
            async () => await store.CleanUpAsync(),
            async () => await store.CompleteAsync(inTransaction.Key, inTransaction.Fence, Outcome, Retention, transaction),
            async () => await store.CompleteAndCommitAsync(inTransaction.Key, inTransaction.Fence, Outcome, Retention, transaction),
        ];
        foreach (Func<Task> verb in verbs)
        {
            await verb.Should().ThrowAsync<IdempotencyStoreException>();
        }

        await ((Func<Task>)(() => wait.WaitAsync(Patience, TimeProvider.System))).Should().NotThrowAsync("who waits is woken, and asks again");
        await cluster.RestartAsync();

        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.InProgress);
        (await store.BeginAsync(completed)).Status.Should().Be(IdempotencyClaimStatus.Completed);
        (await store.CompleteAsync(owner.Key, owner.Fence, Outcome, Retention)).Should().BeTrue();
        await store.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromMinutes(10)).AsTask().WaitAsync(Patience, TimeProvider.System);
    }

    [Fact]
    public async Task A_restart_between_two_claims_is_not_noticed()
    {
        await using PostgreSqlCluster cluster = await Cluster.StartAsync();
        await using NpgsqlDataSource source = NpgsqlDataSource.Create(cluster.ConnectionString);
        await using PostgreSqlIdempotencyStore store = Create(source);
        IdempotencyClaimRequest request = Request();
        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(async () => await store.BeginAsync(Request()))));
        await store.BeginAsync(request);
        await cluster.StopAsync();
        await cluster.RestartAsync();

        IdempotencyClaim claim = await store.BeginAsync(request);

        claim.Status.Should().Be(IdempotencyClaimStatus.InProgress);
    }

    [Fact]
    public async Task A_store_that_is_made_while_the_database_is_down_works_when_it_is_up()
    {
        await using PostgreSqlCluster cluster = await Cluster.StartAsync();
        await cluster.StopAsync();
        await using NpgsqlDataSource source = NpgsqlDataSource.Create(cluster.ConnectionString);
        await using PostgreSqlIdempotencyStore store = Create(source);
        Func<Task> begin = async () => await store.BeginAsync(Request());
        await begin.Should().ThrowAsync<IdempotencyStoreException>();

        await cluster.RestartAsync();

        (await store.BeginAsync(Request())).Status.Should().Be(IdempotencyClaimStatus.Started);
    }
}
