using Backend.Toolkit.Tests;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;
using static Backend.Toolkit.RateLimiting.Redis.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Redis.Tests;

/// <summary>Permits that a node takes ahead, on a real server; where time matters, it is simulated on both sides.</summary>
public sealed class LeaseTests(RedisFixture redis) : IClassFixture<RedisFixture>
{
    private const long Start = 1_700_000_000_000_000;

    [Theory]
    [InlineData(0.75)]
    [InlineData(1.25)]
    [InlineData(5)]
    public async Task Ten_nodes_hold_the_bound_use_the_limit_and_make_one_call_for_twenty_requests_at_most(double load)
    {
        const int Nodes = 10, Lease = 100, Rate = 2000, Burst = 2000, Milliseconds = 10_000;
        StoreClock clock = new(redis.Connection.GetDatabase(), Guid.NewGuid().ToString("N"));
        await clock.SetAsync(Start);
        FakeTimeProvider time = new();
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, PerSecond(Rate, Burst), o =>
        {
            o.LeaseSize = Lease;
            o.Nodes = () => Nodes;
        });
        RedisTokenBucketLimiter<string>[] nodes = [.. Enumerable.Range(0, Nodes).Select(_ => new RedisTokenBucketLimiter<string>(options, time, null, clock.Script))];
        Random random = new(7);
        long before = await redis.Connection.ScriptCallsAsync();
        int[] admitted = new int[Milliseconds];
        int requests = 0;

        for (int now = 0; now < Milliseconds; now++)
        {
            for (; requests < (now + 1) * Rate * load / 1000; requests++)
            {
                admitted[now] += (await nodes[random.Next(Nodes)].AcquireDecisionAsync("one")).IsAdmitted ? 1 : 0;
            }

            await clock.AddAsync(1000);
            time.Advance(TimeSpan.FromMilliseconds(1));
        }

        long calls = await redis.Connection.ScriptCallsAsync() - before;
        MostAbove(admitted, Rate / 1000.0).Should().BeLessThanOrEqualTo(Burst + (Nodes * Lease), "admitted ≤ burst + rate × w + nodes × b in any interval w");
        admitted.Sum().Should().BeGreaterThanOrEqualTo((int)(0.95 * Math.Min(requests, Burst + (Rate * Milliseconds / 1000))));
        calls.Should().BeLessThanOrEqualTo(requests / 20);
    }

    [Theory]
    [InlineData(0.75, 0.1, 1, 1)]
    [InlineData(2, 1, 60, 0.95)]
    [InlineData(2, 1, 150, 0.95)]
    public async Task Leases_waste_little_however_uneven_the_load_and_whatever_requests_cost(double load, double spread, int cost, double used)
    {
        const int Nodes = 10, Lease = 100, Rate = 2000, Burst = 2000, Milliseconds = 10_000;
        StoreClock clock = new(redis.Connection.GetDatabase(), Guid.NewGuid().ToString("N"));
        await clock.SetAsync(Start);
        FakeTimeProvider time = new();
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, PerSecond(Rate, Burst), o => (o.LeaseSize, o.Nodes) = (Lease, () => Nodes));
        RedisTokenBucketLimiter<string>[] nodes = [.. Enumerable.Range(0, Nodes).Select(_ => new RedisTokenBucketLimiter<string>(options, time, null, clock.Script))];
        Random random = new(7);
        int[] admitted = new int[Milliseconds];
        int asked = 0;

        for (int now = 0; now < Milliseconds; now++)
        {
            for (; asked < (now + 1) * Rate * load / 1000; asked += cost)
            {
                int node = random.NextDouble() < spread ? random.Next(Nodes) : 0;
                admitted[now] += (await nodes[node].AcquireDecisionAsync("one", cost)).IsAdmitted ? cost : 0;
            }

            await clock.AddAsync(1000);
            time.Advance(TimeSpan.FromMilliseconds(1));
        }

        MostAbove(admitted, Rate / 1000.0).Should().BeLessThanOrEqualTo(Burst + (Nodes * Lease));
        admitted.Sum().Should().BeGreaterThanOrEqualTo((int)(used * Math.Min(asked, Burst + (Rate * Milliseconds / 1000))));
    }

    [Fact]
    public async Task A_lease_is_spent_here_and_the_synchronous_face_spends_it_too()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(1000, 360_000), o => o.LeaseSize = 10);
        long before = await redis.Connection.ScriptCallsAsync();

        RateLimitDecision first = await limiter.AcquireDecisionAsync("one");
        int sync = 0;
        while (sync < 20 && limiter.TryAcquire("one", 1, out _))
        {
            sync++;
        }

        await RedisServer.WaitUntilAsync(() => limiter.TryAcquire("one", 1, out _), "another lease is here");

        first.IsAdmitted.Should().BeTrue();
        sync.Should().Be(10);
        (await redis.Connection.ScriptCallsAsync() - before).Should().Be(2);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(10)]
    public async Task A_synchronous_request_brings_a_lease_and_nothing_is_lost(int permits)
    {
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, Per(1000, 3_600_000), o => o.LeaseSize = 10);
        RedisTokenBucketLimiterOptions<string> exact = Options(redis.Connection, Per(1000, 3_600_000), o => o.Name = options.Name);
        using RedisTokenBucketLimiter<string> limiter = new(options), other = new(exact);

        limiter.TryAcquire("one", permits, out _).Should().BeFalse();
        await RedisServer.WaitUntilAsync(() => limiter.TryAcquire("one", permits, out _), "the lease is here");

        (await other.AcquireDecisionAsync("one", 0)).Remaining.Should().Be(990);
    }

    [Fact]
    public async Task What_is_more_than_a_lease_is_not_asked_for_by_the_synchronous_face()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(1000, 3_600_000), o => o.LeaseSize = 10);
        long before = await redis.Connection.ScriptCallsAsync();

        bool any = Enumerable.Range(0, 5).Any(_ => limiter.TryAcquire("one", 11, out RateLimitDecision _));
        RateLimitDecision look = await limiter.AcquireDecisionAsync("one", 0);

        any.Should().BeFalse();
        look.Remaining.Should().Be(1000, "it could never be admitted from a lease, so nothing is charged for it");
        (await redis.Connection.ScriptCallsAsync() - before).Should().Be(1);
    }

    [Fact]
    public async Task What_is_more_than_a_lease_is_asked_for_by_itself_and_settled_in_the_store()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(1000, 3_600_000), o => o.LeaseSize = 10);

        RateLimitDecision charge = await limiter.AcquireDecisionAsync("one", 500);
        limiter.Settle(charge, 20);
        await RedisServer.WaitUntilAsync(() => limiter.AcquireDecisionAsync("one", 0).AsTask().Result.Remaining == 980, "the refund is in the store");

        charge.Remaining.Should().Be(500);
    }

    [Fact]
    public async Task A_request_that_was_too_large_does_not_keep_smaller_ones_from_what_is_left()
    {
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, Per(1, 3600, burst: 100), o => o.LeaseSize = 10);
        RedisTokenBucketLimiterOptions<string> exact = Options(redis.Connection, Per(1, 3600, burst: 100), o => o.Name = options.Name);
        using RedisTokenBucketLimiter<string> leasing = new(options), other = new(exact);
        await other.AcquireDecisionAsync("one", 94);

        RateLimitDecision tooLarge = await leasing.AcquireDecisionAsync("one", 7);
        RateLimitDecision[] smaller = [.. Enumerable.Range(0, 7).Select(_ => leasing.AcquireDecisionAsync("one").AsTask().Result)];

        tooLarge.IsAdmitted.Should().BeFalse();
        smaller.Count(decision => decision.IsAdmitted).Should().Be(6);
        smaller[^1].RetryAfter.Should().BeGreaterThan(TimeSpan.FromHours(9), "now its share is used up");
    }

    [Fact]
    public async Task Requests_of_one_key_that_come_at_once_share_a_call()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(10_000, 360_000), o => o.LeaseSize = 100);
        long before = await redis.Connection.ScriptCallsAsync();

        RateLimitDecision[] decisions = await Task.WhenAll(Enumerable.Range(0, 101).Select(_ => limiter.AcquireDecisionAsync("one").AsTask()));

        decisions.Should().OnlyContain(decision => decision.IsAdmitted);
        (await redis.Connection.ScriptCallsAsync() - before).Should().BeLessThanOrEqualTo(2);
    }

    [Fact]
    public async Task After_a_partial_grant_the_node_asks_no_earlier_than_its_share_has_accrued()
    {
        FakeTimeProvider time = new();
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, Per(1, 36_000, burst: 50), o => o.LeaseSize = 5);
        RedisTokenBucketLimiterOptions<string> exact = Options(redis.Connection, Per(1, 36_000, burst: 50), o => o.Name = options.Name);
        options.Nodes = () => 4;
        using RedisTokenBucketLimiter<string> leasing = new(options, time), other = new(exact);
        await other.AcquireDecisionAsync("one", 48);
        long before = await redis.Connection.ScriptCallsAsync();

        RateLimitDecision[] decisions = [await leasing.AcquireDecisionAsync("one"), await leasing.AcquireDecisionAsync("one"), await leasing.AcquireDecisionAsync("one")];
        time.Advance(decisions[2].RetryAfter - TimeSpan.FromTicks(1));
        RateLimitDecision early = await leasing.AcquireDecisionAsync("one");
        long callsUntilThen = await redis.Connection.ScriptCallsAsync() - before;
        time.Advance(TimeSpan.FromTicks(1));
        await leasing.AcquireDecisionAsync("one");

        decisions.Select(decision => decision.IsAdmitted).Should().Equal(true, true, false);
        decisions[2].RetryAfter.Should().Be(TimeSpan.FromSeconds(36_000 * 5 * 4), "its share of the rate is a quarter");
        early.RetryAfter.Should().Be(TimeSpan.FromTicks(1));
        callsUntilThen.Should().Be(1);
        (await redis.Connection.ScriptCallsAsync() - before).Should().Be(2);
    }

    [Fact]
    public async Task A_lease_is_never_more_than_the_burst_divided_by_the_nodes()
    {
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, Per(10, 36_000), o => (o.LeaseSize, o.Nodes) = (100, () => 3));
        using RedisTokenBucketLimiter<string> first = new(options), second = new(options);

        await first.AcquireDecisionAsync("one");
        RateLimitDecision decision = await second.AcquireDecisionAsync("one", 6);

        decision.IsAdmitted.Should().BeTrue("the first took one and three ahead");
    }

    [Fact]
    public async Task A_lease_that_has_run_out_is_not_spent()
    {
        FakeTimeProvider time = new();
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, PerSecond(100, burst: 1000), o => o.LeaseSize = 500, time);
        await limiter.AcquireDecisionAsync("one");
        long before = await redis.Connection.ScriptCallsAsync();

        time.Advance(TimeSpan.FromSeconds(20 * 5) - TimeSpan.FromTicks(1));
        bool inTime = limiter.TryAcquire("one", 1, out _);
        time.Advance(TimeSpan.FromTicks(1));
        bool late = limiter.TryAcquire("one", 1, out _);

        (inTime, late).Should().Be((true, false));
        await RedisServer.WaitUntilAsync(() => limiter.TryAcquire("one", 1, out _), "another lease is here");
        (await redis.Connection.ScriptCallsAsync() - before).Should().Be(1);
    }

    [Fact]
    public async Task What_is_settled_goes_back_to_the_lease_and_a_debt_is_taken_from_it_first()
    {
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, Per(1000, 3_600_000), o => o.LeaseSize = 100);
        RedisTokenBucketLimiterOptions<string> exact = Options(redis.Connection, Per(1000, 3_600_000), o => o.Name = options.Name);
        using RedisTokenBucketLimiter<string> limiter = new(options), other = new(exact);
        RateLimitDecision first = await limiter.AcquireDecisionAsync("one", 50);
        long before = await redis.Connection.ScriptCallsAsync();

        RateLimitDecision leased = await limiter.AcquireDecisionAsync("one", 40);
        limiter.Settle(leased, 10);
        bool ninety = limiter.TryAcquire("one", 90, out RateLimitDecision all);
        limiter.Settle(all, 95);
        long callsSoFar = await redis.Connection.ScriptCallsAsync() - before;
        limiter.Settle(first, 80);
        await RedisServer.WaitUntilAsync(() => other.AcquireDecisionAsync("one", 0).AsTask().Result.Remaining < 850, "the debt is in the store");

        leased.IsAdmitted.Should().BeTrue();
        ninety.Should().BeTrue();
        callsSoFar.Should().Be(1, "five permits of debt were not there");
        (await other.AcquireDecisionAsync("one", 0)).Remaining.Should().Be(1000 - 150 - 5 - 30);
    }

    [Fact]
    public async Task Permits_given_back_never_make_a_lease_larger_than_it_may_be()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(1000, 3_600_000), o => o.LeaseSize = 10);
        RateLimitDecision[] decisions = [.. Enumerable.Range(0, 50).Select(_ => limiter.AcquireDecisionAsync("one", 4).AsTask().Result)];

        Array.ForEach(decisions, decision => limiter.Settle(decision, 0));
        int sync = 0;
        while (sync < 100 && limiter.TryAcquire("one", 1, out _))
        {
            sync++;
        }

        sync.Should().Be(10);
    }

    [Fact]
    public async Task Who_goes_while_the_call_is_under_way_does_not_take_the_lease_from_others()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(1000, 3_600_000), o => o.LeaseSize = 10);
        using CancellationTokenSource source = new();
        server.Pause();
        Task<RateLimitDecision> gone = limiter.AcquireDecisionAsync("one", 8, source.Token).AsTask();
        Task<RateLimitDecision> stays = limiter.AcquireDecisionAsync("one", 8).AsTask();

        await source.CancelAsync();
        server.Resume();

        (await stays).IsAdmitted.Should().BeTrue();
        await gone.Awaiting(task => task).Should().ThrowAsync<OperationCanceledException>();
    }

    [Fact]
    public async Task Who_goes_while_the_call_is_under_way_is_charged_nothing_beyond_the_lease()
    {
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, Per(1000, 3_600_000), o => o.LeaseSize = 10);
        RedisTokenBucketLimiterOptions<string> exact = Options(redis.Connection, Per(1000, 3_600_000), o => o.Name = options.Name);
        using RedisTokenBucketLimiter<string> limiter = new(options), other = new(exact);
        int gone = 0;

        for (int key = 0; key < 20; key++)
        {
            using CancellationTokenSource source = new();
            Task<RateLimitDecision> asking = limiter.AcquireDecisionAsync($"{key}", 9, source.Token).AsTask();
            await source.CancelAsync();
            if (await Task.WhenAny(asking) is { IsCanceled: true })
            {
                gone++;
                await RedisServer.WaitUntilAsync(() => other.AcquireDecisionAsync($"{key}", 0).AsTask().Result.Remaining == 990, "nine of nineteen are given back");
            }
        }

        gone.Should().BePositive();
    }

    [Fact]
    public async Task New_limits_end_a_lease()
    {
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, Per(1000, 3_600_000), o => o.LeaseSize = 10);
        using RedisTokenBucketLimiter<string> limiter = new(options);
        await limiter.AcquireDecisionAsync("one");

        options.Limits[0] = Per(5, 3_600_000);
        limiter.Update(options);

        limiter.TryAcquire("one", 1, out _).Should().BeFalse();
        (await limiter.AcquireDecisionAsync("one")).IsAdmitted.Should().BeFalse("eleven are charged");
    }

    [Theory]
    [InlineData(1024, 200 * 20)]
    [InlineData(64, 200 * 5)]
    public async Task Hundreds_of_keys_at_once_on_two_nodes_never_pass_the_bound(int capacity, int least)
    {
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, Per(30, 360_000), o => (o.LeaseSize, o.Nodes, o.Capacity) = (7, () => 2, capacity));
        using RedisTokenBucketLimiter<string> first = new(options), second = new(options);
        int[] admitted = new int[200];

        await Task.WhenAll(Enumerable.Range(0, 16).Select(caller => Task.Run(async () =>
        {
            Random random = new(caller);
            for (int i = 0; i < 1500; i++)
            {
                int key = random.Next(admitted.Length), permits = random.Next(1, 4);
                RateLimitDecision decision = await (caller % 2 == 0 ? first : second).AcquireDecisionAsync($"{key}", permits);
                if (decision.IsAdmitted)
                {
                    int back = random.Next(4) == 0 ? random.Next(permits + 1) : 0;
                    Interlocked.Add(ref admitted[key], permits - back);
                    if (back > 0)
                    {
                        (caller % 2 == 0 ? first : second).Settle(decision, permits - back);
                    }
                }
            }
        })));

        admitted.Should().OnlyContain(count => count <= 30 + 1, "nothing is admitted that was not charged, and one accrues in this time at most");
        admitted.Sum().Should().BeGreaterThan(least, "a node that must forget loses leases, nothing else");
    }

    [Fact]
    public async Task A_key_with_a_call_under_way_is_not_forgotten_however_many_others_come()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(1000, 3_600_000), o => (o.LeaseSize, o.Capacity) = (10, 64));
        await limiter.AcquireDecisionAsync("the script is there");
        long before = await connection.ScriptCallsAsync();

        server.Pause();
        Task<RateLimitDecision>[] asking = [.. Enumerable.Range(0, 400).Select(i => limiter.AcquireDecisionAsync($"{i % 200}").AsTask())];
        server.Resume();
        RateLimitDecision[] decisions = await Task.WhenAll(asking);

        decisions.Should().OnlyContain(decision => decision.IsAdmitted);
        (await connection.ScriptCallsAsync() - before).Should().Be(200, "the second request of a key joins the call of the first");
    }

    /// <summary>The most by which what was admitted in any interval is above what accrued in it.</summary>
    private static double MostAbove(int[] admitted, double perStep)
    {
        double most = 0, running = 0;
        foreach (int count in admitted)
        {
            // An interval may begin right before these, so they count in full.
            running = Math.Max(0, running) + count;
            most = Math.Max(most, running);
            running -= perStep;
        }

        return most;
    }
}
