using Backend.Toolkit.Tests;
using StackExchange.Redis;
using static Backend.Toolkit.Idempotency.Redis.Tests.Stores;

namespace Backend.Toolkit.Idempotency.Redis.Tests;

/// <summary>A cluster of one node that has all slots.</summary>
public sealed class ClusterTests : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("redis").FullName;
    private RedisServer _server = null!;
    private ConnectionMultiplexer _connection = null!;

    public async ValueTask InitializeAsync()
    {
        _server = await RedisServer.StartAsync("--cluster-enabled", "yes", "--dir", _folder);
        await using (ConnectionMultiplexer admin = await _server.ConnectAsync())
        {
            await admin.GetServers()[0].ExecuteAsync("CLUSTER", "ADDSLOTSRANGE", 0, 16383);
            await RedisServer.WaitUntilAsync(() => ((string)admin.GetServers()[0].Execute("CLUSTER", "INFO")!).Contains("cluster_state:ok", StringComparison.Ordinal), "the cluster is up");
        }

        _connection = await _server.ConnectAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await _connection.DisposeAsync();
        await _server.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task Each_record_has_a_slot_of_its_own_and_all_verbs_work()
    {
        RedisIdempotencyStore store = Make(_connection);
        for (int i = 0; i < 20; i++)
        {
            IdempotencyClaimRequest request = Request();
            IdempotencyClaim claim = await store.BeginAsync(request);
            Task wait = store.WaitAsync(claim.Key, claim.Fence, TimeSpan.FromMinutes(10)).AsTask();
            await store.SavePhaseAsync(claim.Key, claim.Fence, "charge", new byte[1]);
            await store.CompleteAsync(claim);

            await wait.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System);
            (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Completed);
        }
    }

    [Fact]
    public async Task A_second_key_needs_a_hash_tag_and_says_so()
    {
        RedisIdempotencyStore scattered = Make(_connection), together = Make(_connection, o => o.KeyPrefix = "{orders}:");
        IdempotencyClaimRequest request = Request(Digest());

        Func<Task> begin = async () => await scattered.BeginAsync(request);

        (await begin.Should().ThrowAsync<NotSupportedException>()).Which.Message.Should().Contain("hash tag");
        (await together.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Started);
        (await together.BeginAsync(request with { Key = request.PreviousKey!.Value, PreviousKey = request.Key })).Key.Should().Be(request.Key);
    }

    [Fact]
    public async Task Replicas_are_refused_as_WAIT_might_reach_another_node()
    {
        RedisIdempotencyStore store = Make(_connection, o => o.Replicas = 1);

        Func<Task> begin = async () => await store.BeginAsync(Request());

        await begin.Should().ThrowAsync<NotSupportedException>();
    }
}
