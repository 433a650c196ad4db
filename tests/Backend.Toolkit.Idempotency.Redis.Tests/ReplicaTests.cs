using Backend.Toolkit.Tests;
using StackExchange.Redis;
using static Backend.Toolkit.Idempotency.Redis.Tests.Stores;

namespace Backend.Toolkit.Idempotency.Redis.Tests;

/// <summary><c>WAIT</c>, with replicas that are there, that hang, and that are not there.</summary>
public sealed class ReplicaTests
{
    [Fact]
    public async Task A_claim_that_no_replica_has_fails_and_its_lease_ends_it()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        string prefix = $"{Guid.NewGuid():N}:";
        RedisIdempotencyStore strict = Make(connection, o => (o.KeyPrefix, o.Replicas, o.ReplicaTimeout) = (prefix, 1, TimeSpan.FromMilliseconds(20)));
        RedisIdempotencyStore lenient = Make(connection, o => o.KeyPrefix = prefix);
        IdempotencyClaimRequest request = Request();

        Func<Task> begin = async () => await strict.BeginAsync(request);
        (await begin.Should().ThrowAsync<IdempotencyStoreException>()).Which.Message.Should().Contain("1 replicas");
        IdempotencyClaim duplicate = await strict.BeginAsync(request);
        await ShiftAsync(connection, prefix, Lease);
        IdempotencyClaim next = await lenient.BeginAsync(request);

        duplicate.Status.Should().Be(IdempotencyClaimStatus.InProgress, "what was not written by this call needs no replica");
        next.Status.Should().Be(IdempotencyClaimStatus.Started);
    }

    [Fact]
    public async Task With_a_replica_each_verb_that_counts_is_there_before_it_returns()
    {
        await using RedisServer master = await RedisServer.StartAsync("--repl-diskless-sync-delay", "0");
        await using RedisServer replica = await RedisServer.StartAsync("--replicaof", "127.0.0.1", $"{master.Port}");
        await using ConnectionMultiplexer connection = await master.ConnectAsync();
        await using ConnectionMultiplexer copy = await replica.ConnectAsync();
        string prefix = $"{Guid.NewGuid():N}:";
        RedisIdempotencyStore store = Make(connection, o => (o.KeyPrefix, o.Replicas, o.ReplicaTimeout) = (prefix, 1, TimeSpan.FromSeconds(15)));
        await RedisServer.WaitUntilAsync(() => copy.GetServers()[0].InfoRaw("replication")!.Contains("master_link_status:up", StringComparison.Ordinal), "the replica follows");
        IdempotencyClaim first = await store.BeginAsync(Request());
        await store.SavePhaseAsync(first.Key, first.Fence, "charge", new byte[5]);
        await store.CompleteAsync(first);
        long waits = (await connection.CommandsAsync())["wait"];
        IdempotencyClaimRequest request = Request();

        IdempotencyClaim claim = await store.BeginAsync(request);
        long begun = await LengthAsync();
        await store.SavePhaseAsync(claim.Key, claim.Fence, "charge", new byte[5]);
        long saved = await LengthAsync();
        await store.CompleteAsync(claim);
        long completed = await LengthAsync();

        (begun, saved, completed).Should().Be((51, 51 + 6 + 12 + 5, 51 + 4 + 3));
        ((await connection.CommandsAsync())["wait"] - waits).Should().Be(3);

        Task<long> LengthAsync() => copy.GetDatabase().StringLengthAsync(prefix + request.Key, CommandFlags.PreferReplica);
    }

    [Fact]
    public async Task An_outcome_that_the_replica_missed_is_recorded_when_it_is_written_again()
    {
        await using RedisServer master = await RedisServer.StartAsync("--repl-diskless-sync-delay", "0");
        await using RedisServer replica = await RedisServer.StartAsync("--replicaof", "127.0.0.1", $"{master.Port}");
        await using ConnectionMultiplexer connection = await master.ConnectAsync();
        await RedisServer.WaitUntilAsync(() => connection.GetServers()[0].InfoRaw("replication")!.Contains("state=online", StringComparison.Ordinal), "the replica follows");
        string prefix = $"{Guid.NewGuid():N}:";
        RedisIdempotencyStore patient = Make(connection, o => (o.KeyPrefix, o.Replicas, o.ReplicaTimeout) = (prefix, 1, TimeSpan.FromSeconds(15)));
        RedisIdempotencyStore store = Make(connection, o => (o.KeyPrefix, o.Replicas, o.ReplicaTimeout) = (prefix, 1, TimeSpan.FromMilliseconds(50)));
        IdempotencyClaim claim = await patient.BeginAsync(Request());

        replica.Pause();
        Func<Task> complete = async () => await store.CompleteAsync(claim);
        await complete.Should().ThrowAsync<IdempotencyStoreException>();
        await complete.Should().ThrowAsync<IdempotencyStoreException>("the replica has it no more than before");
        await using ConnectionMultiplexer fresh = await master.ConnectAsync();
        RedisIdempotencyStore elsewhere = Make(fresh, o => (o.KeyPrefix, o.Replicas, o.ReplicaTimeout) = (prefix, 1, TimeSpan.FromMilliseconds(50)));
        Func<Task> again = async () => await elsewhere.CompleteAsync(claim);
        await again.Should().ThrowAsync<IdempotencyStoreException>("a connection that has not written yet does not take that for replicated");
        replica.Resume();

        (await patient.CompleteAsync(claim)).Should().BeTrue();
    }
}
