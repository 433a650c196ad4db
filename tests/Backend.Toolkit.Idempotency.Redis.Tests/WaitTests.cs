using Backend.Toolkit.Tests;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;
using static Backend.Toolkit.Idempotency.Redis.Tests.Stores;

namespace Backend.Toolkit.Idempotency.Redis.Tests;

/// <summary>Waits are woken by the script that ends the run. Time stands still, so that nobody is woken by looking again.</summary>
public sealed class WaitTests(RedisFixture redis) : IClassFixture<RedisFixture>
{
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public async Task Ten_thousand_waits_leave_no_subscription()
    {
        RedisIdempotencyStore store = Make(redis.Connection, time: _time);
        IdempotencyClaim[] owners = await Task.WhenAll(Enumerable.Range(0, 100).Select(_ => store.BeginAsync(Request()).AsTask()));
        using var cancellation = new CancellationTokenSource();
        Task[] waits = [.. Enumerable.Range(0, 10_000).Select(index => (index % 3 == 0
            ? store.WaitAsync(owners[index % 100].Key, owners[index % 100].Fence, TimeSpan.FromMinutes(10), cancellation.Token)
            : store.WaitAsync(owners[index % 100].Key, owners[index % 100].Fence, TimeSpan.FromMinutes(10))).AsTask())];
        await RedisServer.WaitUntilAsync(() => Subscriptions() == 100, "each record that is waited for has one subscription");

        await cancellation.CancelAsync();
        foreach (IdempotencyClaim owner in owners[..50])
        {
            await store.CompleteAsync(owner);
        }

        foreach (IdempotencyClaim owner in owners[50..])
        {
            await store.AbandonAsync(owner.Key, owner.Fence);
        }

        await Task.WhenAll(waits).ContinueWith(_ => { }, TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromSeconds(60), TimeProvider.System);
        waits.Count(wait => wait.IsCompletedSuccessfully).Should().BeGreaterThan(6_000);
        waits.Should().OnlyContain(wait => wait.IsCompletedSuccessfully || wait.IsCanceled);
        await RedisServer.WaitUntilAsync(() => Subscriptions() == 0, "all subscriptions are gone");
        store.Channels.Count.Should().Be(0);
    }

    [Fact]
    public async Task Who_comes_while_the_last_one_leaves_is_woken_all_the_same()
    {
        RedisIdempotencyStore store = Make(redis.Connection, time: _time);
        IdempotencyClaim owner = await store.BeginAsync(Request());
        for (int i = 0; i < 200; i++)
        {
            using var cancellation = new CancellationTokenSource();
            Task leaving = store.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromMinutes(10), cancellation.Token).AsTask();
            if (i % 2 == 0)
            {
                await Task.Yield();
            }

            await cancellation.CancelAsync();
            await leaving.ContinueWith(_ => { }, TestContext.Current.CancellationToken);
        }

        Task wait = store.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromMinutes(10)).AsTask();
        await RedisServer.WaitUntilAsync(() => Subscriptions() == 1, "the last one is subscribed");
        bool early = wait.IsCompleted;
        await store.CompleteAsync(owner);

        early.Should().BeFalse();
        await wait.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System);
        await RedisServer.WaitUntilAsync(() => store.Channels.Count == 0, "nothing is left");
    }

    [Fact]
    public async Task Who_waits_on_another_node_is_woken_also_when_the_driver_prefixes_channels()
    {
        await using ConnectionMultiplexer other = await redis.Server.ConnectAsync(",channelPrefix=app:");
        string prefix = $"{Guid.NewGuid():N}:";
        RedisIdempotencyStore here = Make(other, o => o.KeyPrefix = prefix, _time);
        await using ConnectionMultiplexer third = await redis.Server.ConnectAsync(",channelPrefix=app:");
        RedisIdempotencyStore there = Make(third, o => o.KeyPrefix = prefix, _time);
        IdempotencyClaim owner = await here.BeginAsync(Request());

        Task wait = there.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromMinutes(10)).AsTask();
        await RedisServer.WaitUntilAsync(() => Subscriptions() == 1, "the wait is subscribed");
        bool early = wait.IsCompleted;
        await here.CompleteAsync(owner);

        early.Should().BeFalse();
        await wait.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System);
    }

    [Fact]
    public async Task Who_waits_is_woken_when_somebody_takes_over()
    {
        string prefix = $"{Guid.NewGuid():N}:";
        RedisIdempotencyStore store = Make(redis.Connection, o => o.KeyPrefix = prefix, _time);
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        Task wait = store.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromMinutes(10)).AsTask();
        await RedisServer.WaitUntilAsync(() => Subscriptions() == 1, "the wait is subscribed");
        await ShiftAsync(redis.Connection, prefix, Lease);

        await store.BeginAsync(request);

        await wait.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System);
    }

    [Fact]
    public async Task A_message_that_is_lost_costs_five_seconds()
    {
        string prefix = $"{Guid.NewGuid():N}:";
        RedisIdempotencyStore store = Make(redis.Connection, o => o.KeyPrefix = prefix, _time);
        IdempotencyClaim owner = await store.BeginAsync(Request());
        Task wait = store.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromMinutes(10)).AsTask();
        await RedisServer.WaitUntilAsync(() => Subscriptions() == 1, "the wait is subscribed");

        // As though it had been completed while the subscription was down.
        await redis.Connection.GetDatabase().KeyDeleteAsync(prefix + owner.Key);
        for (int i = 0; i < 100 && !wait.IsCompleted; i++)
        {
            _time.Advance(TimeSpan.FromSeconds(1));
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System);
        }

        await wait.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System);
    }

    [Fact]
    public async Task A_wait_on_a_server_that_hangs_ends_with_its_time()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        RedisIdempotencyStore store = Make(connection, time: _time);
        IdempotencyClaim owner = await store.BeginAsync(Request());

        server.Pause();
        Task wait = store.WaitAsync(owner.Key, owner.Fence, TimeSpan.FromSeconds(3)).AsTask();
        for (int i = 0; i < 100 && !wait.IsCompleted; i++)
        {
            _time.Advance(TimeSpan.FromSeconds(3));
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System);
        }

        await wait.WaitAsync(TimeSpan.FromSeconds(20), TimeProvider.System);
        server.Resume();
    }

    private int Subscriptions() => redis.Connection.GetServers()[0].SubscriptionChannels().Count(channel => !channel.ToString().Contains("Booksleeve", StringComparison.Ordinal));
}
