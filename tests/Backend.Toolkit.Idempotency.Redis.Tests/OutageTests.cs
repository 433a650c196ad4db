using Backend.Toolkit.Tests;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;
using static Backend.Toolkit.Idempotency.Redis.Tests.Stores;

namespace Backend.Toolkit.Idempotency.Redis.Tests;

/// <summary>Real servers are killed, paused, filled, made read-only, emptied and started again.</summary>
public sealed class OutageTests
{
    [Fact]
    public async Task A_killed_store_says_so_and_works_again_when_it_is_back_although_it_knows_no_script()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        RedisIdempotencyStore store = Make(connection, o => o.StoreTimeout = TimeSpan.FromSeconds(1));
        IdempotencyClaim claim = await store.BeginAsync(Request());

        server.Kill();
        Func<Task> begin = async () => await store.BeginAsync(Request());
        Func<Task> complete = async () => await store.CompleteAsync(claim);
        await begin.Should().ThrowAsync<IdempotencyStoreException>();
        await complete.Should().ThrowAsync<IdempotencyStoreException>();
        await server.RestartAsync();
        await RedisServer.WaitUntilAsync(() => connection.IsConnected, "the client is connected again");
        store.Update(new RedisIdempotencyStoreOptions { Connection = connection, StoreTimeout = TimeSpan.FromSeconds(20) });

        IdempotencyClaimRequest request = Request();
        IdempotencyClaim after = await store.BeginAsync(request);
        (await store.CompleteAsync(after)).Should().BeTrue();
        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Completed);
        (await store.CompleteAsync(claim)).Should().BeFalse("the server has no append-only file, so the claim is lost");
    }

    [Fact]
    public async Task What_the_server_persists_outlives_a_kill()
    {
        string folder = Directory.CreateTempSubdirectory("redis").FullName;
        string[] durable = ["--appendonly", "yes", "--appendfsync", "always", "--dir", folder];
        await using RedisServer server = await RedisServer.StartAsync(durable);
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        RedisIdempotencyStore store = Make(connection);
        IdempotencyClaimRequest ended = Request(), running = Request();
        await store.CompleteAsync(await store.BeginAsync(ended), 201);
        IdempotencyClaim owner = await store.BeginAsync(running);
        await store.SavePhaseAsync(owner.Key, owner.Fence, "charge", new byte[] { 7 });

        server.Kill();
        await server.RestartAsync(durable);
        await RedisServer.WaitUntilAsync(() => connection.IsConnected, "the client is connected again");

        (await UntilItAnswersAsync(() => store.BeginAsync(ended))).Outcome!.Status.Should().Be(201);
        (await store.BeginAsync(running)).Fence.Should().Be(owner.Fence);
        (await store.CompleteAsync(owner)).Should().BeTrue();
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task Scripts_that_are_flushed_are_sent_again()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        RedisIdempotencyStore store = Make(connection);
        IdempotencyClaimRequest request = Request();
        var answers = new List<bool>();

        await FlushAsync();
        IdempotencyClaim claim = await store.BeginAsync(request);
        await FlushAsync();
        answers.Add(await store.RenewAsync(claim.Key, claim.Fence, Lease));
        await FlushAsync();
        answers.Add(await store.SavePhaseAsync(claim.Key, claim.Fence, "charge", new byte[1]));
        await FlushAsync();
        answers.Add(await store.CompleteAsync(claim));
        IdempotencyClaim other = await store.BeginAsync(Request());
        await FlushAsync();
        answers.Add(await store.AbandonAsync(other.Key, other.Fence));

        answers.Should().Equal(true, true, true, true);
        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Completed);

        async Task FlushAsync() => await connection.GetServers()[0].ExecuteAsync("SCRIPT", "FLUSH");
    }

    [Fact]
    public async Task A_reply_that_is_lost_is_told_and_the_outcome_is_there_when_it_is_written_again()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        FakeTimeProvider time = new();
        RedisIdempotencyStore store = Make(connection, o => o.StoreTimeout = TimeSpan.FromSeconds(2), time);
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim claim = await store.BeginAsync(request);
        await store.CompleteAsync(await store.BeginAsync(Request()));

        server.Pause();
        Task<bool> first = store.CompleteAsync(claim, 201).AsTask();
        time.Advance(TimeSpan.FromMilliseconds(1999));
        bool early = first.IsCompleted;
        time.Advance(TimeSpan.FromMilliseconds(1));
        Func<Task> lost = () => first;
        await lost.Should().ThrowAsync<IdempotencyStoreException>();
        server.Resume();
        bool second = await store.CompleteAsync(claim, 500);

        early.Should().BeFalse();
        second.Should().BeTrue();
        (await store.BeginAsync(request)).Outcome!.Status.Should().Be(201, "the first was written, and an outcome never changes");
    }

    [Fact]
    public async Task A_caller_who_goes_while_the_store_hangs_does_not_wait()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        RedisIdempotencyStore store = Make(connection, time: new FakeTimeProvider());
        await store.BeginAsync(Request());
        using var cancellation = new CancellationTokenSource();

        server.Pause();
        Task<IdempotencyClaim> begin = store.BeginAsync(Request(), cancellation.Token).AsTask();
        await cancellation.CancelAsync();
        Func<Task> gone = () => begin;

        await gone.Should().ThrowAsync<OperationCanceledException>();
        server.Resume();
    }

    [Fact]
    public async Task A_store_without_room_says_so_and_takes_claims_again_when_it_has_some()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        RedisIdempotencyStore store = Make(connection);
        IServer admin = connection.GetServers()[0];
        IdempotencyClaim claim = await store.BeginAsync(Request());

        await admin.ConfigSetAsync("maxmemory", "1");
        Func<Task> begin = async () => await store.BeginAsync(Request());
        Func<Task> complete = async () => await store.CompleteAsync(claim);
        (await begin.Should().ThrowAsync<IdempotencyStoreException>()).Which.Message.Should().Contain("OOM");
        await complete.Should().ThrowAsync<IdempotencyStoreException>();
        await admin.ConfigSetAsync("maxmemory", "0");

        (await store.CompleteAsync(claim)).Should().BeTrue();
    }

    [Fact]
    public async Task A_store_that_became_a_replica_says_so()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        RedisIdempotencyStore store = Make(connection, o => o.StoreTimeout = TimeSpan.FromSeconds(3));
        IdempotencyClaim claim = await store.BeginAsync(Request());

        await connection.GetServers()[0].ExecuteAsync("REPLICAOF", "127.0.0.1", $"{RedisServer.FreePort()}");
        Func<Task> complete = async () => await store.CompleteAsync(claim);
        await complete.Should().ThrowAsync<IdempotencyStoreException>();
        await using ConnectionMultiplexer other = await server.ConnectAsync();
        await other.GetServers()[0].ExecuteAsync("REPLICAOF", "NO", "ONE");

        (await UntilItAnswersAsync(() => store.CompleteAsync(claim))).Should().BeTrue();
    }

    [Fact]
    public async Task A_key_that_holds_something_else_is_told_and_left_alone()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        IDatabase database = connection.GetDatabase();
        RedisIdempotencyStore store = Make(connection, o => o.KeyPrefix = "");
        IdempotencyClaimRequest text = Request(), list = Request();
        await database.StringSetAsync(text.Key.ToString(), new string('x', 100));
        await database.ListLeftPushAsync(list.Key.ToString(), "x");

        foreach (IdempotencyClaimRequest request in new[] { text, list })
        {
            Func<Task> begin = async () => await store.BeginAsync(request);
            await begin.Should().ThrowAsync<IdempotencyStoreException>();
        }

        (await store.CompleteAsync(text.Key, 1, Outcome(), Lease)).Should().BeFalse();
        ((string?)await database.StringGetAsync(text.Key.ToString())).Should().Be(new string('x', 100));
        (await database.ListLengthAsync(list.Key.ToString())).Should().Be(1);
    }

    [Fact]
    public async Task After_a_failover_the_replica_goes_on_where_the_master_was()
    {
        await using RedisServer master = await RedisServer.StartAsync("--repl-diskless-sync-delay", "0");
        await using RedisServer replica = await RedisServer.StartAsync("--replicaof", "127.0.0.1", $"{master.Port}");
        await using ConnectionMultiplexer connection = await ConnectionMultiplexer.ConnectAsync($"127.0.0.1:{master.Port},127.0.0.1:{replica.Port},abortConnect=false,allowAdmin=true,connectTimeout=2000");
        RedisIdempotencyStore store = Make(connection, o => (o.Replicas, o.ReplicaTimeout) = (1, TimeSpan.FromSeconds(15)));
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim claim = await UntilItAnswersAsync(() => store.BeginAsync(request));
        await store.SavePhaseAsync(claim.Key, claim.Fence, "charge", new byte[1]);

        master.Kill();
        await connection.GetServer("127.0.0.1", replica.Port).ExecuteAsync("REPLICAOF", "NO", "ONE");
        await connection.ConfigureAsync();
        RedisIdempotencyStore after = Make(connection, o => o.KeyPrefix = Prefix(store));
        bool completed = await UntilItAnswersAsync(() => after.CompleteAsync(claim));

        completed.Should().BeTrue();
        (await after.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Completed);

        static string Prefix(RedisIdempotencyStore store) => store.KeyPrefix;
    }

    private static async Task<T> UntilItAnswersAsync<T>(Func<ValueTask<T>> call)
    {
        T answer = default!;
        for (int tries = 1; ; tries++)
        {
            try
            {
                answer = await call();
                return answer;
            }
            catch (IdempotencyStoreException) when (tries < 200)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System);
            }
        }
    }
}
