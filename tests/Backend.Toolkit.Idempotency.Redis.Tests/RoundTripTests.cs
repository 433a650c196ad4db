using System.Text;
using System.Text.Json.Serialization;
using StackExchange.Redis;
using static Backend.Toolkit.Idempotency.Redis.Tests.Stores;

namespace Backend.Toolkit.Idempotency.Redis.Tests;

/// <summary>What the server has run, by its own count.</summary>
public sealed partial class RoundTripTests(RedisFixture redis) : IClassFixture<RedisFixture>
{
    [Fact]
    public async Task A_run_is_two_round_trips_and_a_repeat_is_one()
    {
        RedisIdempotencyStore store = Make(redis.Connection);
        var executor = new IdempotentExecutor(store, new IdempotencyOptions { Name = "trips" });
        await RunAsync("warm");

        Dictionary<string, long> before = await redis.Connection.CommandsAsync();
        await RunAsync("key");
        Dictionary<string, long> first = await redis.Connection.CommandsAsync();
        await RunAsync("key");
        Dictionary<string, long> second = await redis.Connection.CommandsAsync();

        Since(before, first).Should().BeEquivalentTo(new Dictionary<string, long> { ["evalsha"] = 2, ["time"] = 1, ["get"] = 1, ["set"] = 2, ["getrange"] = 1, ["publish"] = 1 });
        Since(first, second).Should().BeEquivalentTo(new Dictionary<string, long> { ["evalsha"] = 1, ["time"] = 1, ["get"] = 1 });

        async Task RunAsync(string key) => await executor.ExecuteAsync(key, Encoding.UTF8.GetBytes(key), static (_, _) => ValueTask.FromResult("done"), Json.Default.String);
    }

    [Fact]
    public async Task A_second_key_costs_no_round_trip()
    {
        RedisIdempotencyStore store = Make(redis.Connection);
        await store.BeginAsync(Request());

        Dictionary<string, long> before = await redis.Connection.CommandsAsync();
        await store.BeginAsync(Request(Digest()));
        Dictionary<string, long> after = await redis.Connection.CommandsAsync();

        Since(before, after).Should().BeEquivalentTo(new Dictionary<string, long> { ["evalsha"] = 1, ["time"] = 1, ["get"] = 2, ["set"] = 1 });
    }

    [Fact]
    public async Task A_record_expires_in_the_store_and_needs_nobody_to_clean_up()
    {
        string prefix = $"{Guid.NewGuid():N}:";
        IDatabase database = redis.Connection.GetDatabase();
        RedisIdempotencyStore store = Make(redis.Connection, o => o.KeyPrefix = prefix);
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim claim = await store.BeginAsync(request);

        TimeSpan? begun = await database.KeyTimeToLiveAsync(prefix + request.Key);
        await store.RenewAsync(claim.Key, claim.Fence, TimeSpan.FromHours(30));
        TimeSpan? renewed = await database.KeyTimeToLiveAsync(prefix + request.Key);
        await store.SavePhaseAsync(claim.Key, claim.Fence, "charge", new byte[3]);
        await store.SavePhaseAsync(claim.Key, claim.Fence, "charge", new byte[3]);
        TimeSpan? saved = await database.KeyTimeToLiveAsync(prefix + request.Key);
        await store.CompleteAsync(claim.Key, claim.Fence, Outcome(), TimeSpan.FromHours(1));
        TimeSpan? completed = await database.KeyTimeToLiveAsync(prefix + request.Key);

        var slack = TimeSpan.FromMinutes(1);
        begun.Should().BeCloseTo(TimeSpan.FromHours(24), slack);
        renewed.Should().BeCloseTo(TimeSpan.FromHours(30), slack);
        saved.Should().BeCloseTo(TimeSpan.FromHours(30), slack);
        completed.Should().BeCloseTo(TimeSpan.FromHours(1), slack);
        ((byte[]?)await database.StringGetAsync(prefix + request.Key)).Should().HaveCount(RecordScripts.HeadSize + 4 + 3);
    }

    [Fact]
    public async Task A_phase_is_replaced_where_it_is_and_the_others_stay()
    {
        string prefix = $"{Guid.NewGuid():N}:";
        RedisIdempotencyStore store = Make(redis.Connection, o => o.KeyPrefix = prefix);
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim first = await store.BeginAsync(request);
        for (int i = 0; i < 100; i++)
        {
            await store.SavePhaseAsync(first.Key, first.Fence, $"phase {i % 3}", new byte[] { (byte)i });
        }

        await store.SavePhaseAsync(first.Key, first.Fence, "\ud800", new byte[] { 1 });
        await store.SavePhaseAsync(first.Key, first.Fence, "\ud801", new byte[] { 2 });
        long size = await redis.Connection.GetDatabase().StringLengthAsync(prefix + request.Key);
        await ShiftAsync(redis.Connection, prefix, Lease);
        IdempotencyClaim second = await store.BeginAsync(request);

        size.Should().Be(RecordScripts.HeadSize + (3 * (6 + 14 + 1)) + (2 * (6 + 2 + 1)));
        second.Phases.ToDictionary(phase => phase.Key, phase => phase.Value.Span[0]).Should()
            .Equal(new Dictionary<string, byte> { ["phase 0"] = 99, ["phase 1"] = 97, ["phase 2"] = 98, ["\ud800"] = 1, ["\ud801"] = 2 });
    }

    [Fact]
    public async Task A_fence_grows_also_when_the_servers_clock_goes_back()
    {
        string prefix = $"{Guid.NewGuid():N}:";
        RedisIdempotencyStore store = Make(redis.Connection, o => o.KeyPrefix = prefix);
        IdempotencyClaimRequest request = Request();
        long ahead = (await store.BeginAsync(request)).Fence + 3_600_000_000;
        await redis.Connection.GetDatabase().StringSetRangeAsync(prefix + request.Key, 3, Record.Fence(ahead));
        await ShiftAsync(redis.Connection, prefix, Lease);

        IdempotencyClaim next = await store.BeginAsync(request);

        (next.Status, next.Fence).Should().Be((IdempotencyClaimStatus.Started, ahead + 1));
        (await store.CompleteAsync(next)).Should().BeTrue();
    }

    [Theory]
    [InlineData(long.MinValue)]
    [InlineData(-1)]
    [InlineData(0)]
    [InlineData(1L << 53)]
    [InlineData(long.MaxValue)]
    public async Task A_fence_that_no_record_can_have_owns_nothing(long fence)
    {
        RedisIdempotencyStore store = Make(redis.Connection);
        IdempotencyClaim claim = await store.BeginAsync(Request());

        (await store.RenewAsync(claim.Key, fence, Lease)).Should().BeFalse();
        (await store.CompleteAsync(claim.Key, fence, Outcome(), Lease)).Should().BeFalse();
    }

    private static Dictionary<string, long> Since(Dictionary<string, long> before, Dictionary<string, long> after) =>
        after.Where(command => command.Key is not ("info" or "ping")).ToDictionary(command => command.Key, command => command.Value - before.GetValueOrDefault(command.Key))
            .Where(command => command.Value > 0).ToDictionary();

    [JsonSerializable(typeof(string))]
    private sealed partial class Json : JsonSerializerContext;
}
