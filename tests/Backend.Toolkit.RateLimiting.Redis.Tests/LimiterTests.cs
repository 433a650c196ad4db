using System.Threading.RateLimiting;
using Backend.Toolkit.Tests;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;
using static Backend.Toolkit.RateLimiting.Redis.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Redis.Tests;

/// <summary>The limiter without leases, on a real server.</summary>
public sealed class LimiterTests(RedisFixture redis) : IClassFixture<RedisFixture>
{
    private readonly IDatabase _database = redis.Connection.GetDatabase();

    [Fact]
    public async Task Nodes_of_one_name_share_one_limit_and_each_request_is_one_call()
    {
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, Per(5, 3600));
        using RedisTokenBucketLimiter<string> first = new(options), second = new(options);
        long before = await redis.Connection.ScriptCallsAsync();

        RateLimitDecision[] decisions = new RateLimitDecision[6];
        for (int i = 0; i < 6; i++)
        {
            decisions[i] = await (i % 2 == 0 ? first : second).AcquireDecisionAsync("one");
        }

        decisions.Select(decision => decision.IsAdmitted).Should().Equal(true, true, true, true, true, false);
        decisions.Select(decision => decision.Remaining).Should().Equal(4, 3, 2, 1, 0, 0);
        decisions[5].RetryAfter.Should().BeGreaterThan(TimeSpan.FromMinutes(11)).And.BeLessThanOrEqualTo(TimeSpan.FromMinutes(12));
        ((await redis.Connection.ScriptCallsAsync()) - before).Should().Be(6);
        (await second.AcquireDecisionAsync("another")).Remaining.Should().Be(4);
    }

    [Fact]
    public async Task A_refusal_is_repeated_here_until_it_is_due()
    {
        FakeTimeProvider time = new();
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(10, 3600), time: time);
        await limiter.AcquireDecisionAsync("one", 10);
        RateLimitDecision refused = await limiter.AcquireDecisionAsync("one", 2);
        long before = await redis.Connection.ScriptCallsAsync();

        time.Advance(refused.RetryAfter / 2);
        RateLimitDecision again = await limiter.AcquireDecisionAsync("one", 2);
        bool sync = limiter.TryAcquire("one", 2, out RateLimitDecision alsoHere);
        long callsUntilDue = await redis.Connection.ScriptCallsAsync() - before;
        time.Advance(again.RetryAfter - TimeSpan.FromMicroseconds(1));
        RateLimitDecision early = await limiter.AcquireDecisionAsync("one", 2);
        long callsWhenEarly = await redis.Connection.ScriptCallsAsync() - before;
        time.Advance(TimeSpan.FromMicroseconds(1));
        await limiter.AcquireDecisionAsync("one", 2);
        long callsWhenDue = await redis.Connection.ScriptCallsAsync() - before;

        again.IsAdmitted.Should().BeFalse();
        again.RetryAfter.Should().BeCloseTo(refused.RetryAfter / 2, TimeSpan.FromMilliseconds(1));
        (sync, alsoHere.RetryAfter).Should().Be((false, again.RetryAfter));
        early.RetryAfter.Should().Be(TimeSpan.FromMicroseconds(1));
        (callsUntilDue, callsWhenEarly, callsWhenDue).Should().Be((0, 0, 1));
    }

    [Fact]
    public async Task A_smaller_request_than_the_refused_one_is_asked_for()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(10, 3600));
        await limiter.AcquireDecisionAsync("one", 8);
        (await limiter.AcquireDecisionAsync("one", 5)).IsAdmitted.Should().BeFalse();

        RateLimitDecision smaller = await limiter.AcquireDecisionAsync("one", 2);

        (smaller.IsAdmitted, smaller.Remaining).Should().Be((true, 0));
    }

    [Fact]
    public async Task Several_limits_admit_together_or_not_at_all()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(100, 3600), o => o.Limits.Add(Per(3, 60)));

        await limiter.AcquireDecisionAsync("one", 2);
        RateLimitDecision refused = await limiter.AcquireDecisionAsync("one", 2);
        RateLimitDecision admitted = await limiter.AcquireDecisionAsync("one", 1);

        (refused.IsAdmitted, admitted.IsAdmitted).Should().Be((false, true));
        limiter.LimitsOf("one").Should().HaveCount(2);
        (await limiter.AcquireDecisionAsync("one", 0)).ResetAfter.Should().BeGreaterThan(TimeSpan.FromSeconds(100), "three of a hundred an hour are missing, not five").And.BeLessThan(TimeSpan.FromSeconds(109));
    }

    [Fact]
    public async Task More_than_can_ever_be_had_is_refused_for_ever_and_throws_on_the_frameworks_face()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(5, 3600));

        RateLimitDecision decision = await limiter.AcquireDecisionAsync("one", 6);
        limiter.TryAcquire("one", 6, out RateLimitDecision sync);

        (decision.IsAdmitted, decision.RetryAfter, decision.Remaining).Should().Be((false, Timeout.InfiniteTimeSpan, 5));
        (sync.IsAdmitted, sync.RetryAfter).Should().Be((false, Timeout.InfiniteTimeSpan));
        await limiter.Awaiting(it => it.AcquireAsync("one", 6).AsTask()).Should().ThrowAsync<ArgumentOutOfRangeException>();
        await limiter.Awaiting(it => it.AcquireDecisionAsync("one", -1).AsTask()).Should().ThrowAsync<ArgumentOutOfRangeException>();
        limiter.Invoking(it => it.TryAcquire("one", -1, out _)).Should().Throw<ArgumentOutOfRangeException>();
    }

    [Fact]
    public async Task The_frameworks_face_admits_by_a_call_and_its_synchronous_half_only_what_is_here()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(1, 3600));

        using RateLimitLease sync = limiter.AttemptAcquire("one");
        using RateLimitLease admitted = await limiter.AcquireAsync("one");
        using RateLimitLease refused = await limiter.AcquireAsync("one");

        (sync.IsAcquired, admitted.IsAcquired, refused.IsAcquired).Should().Be((false, true, false));
        refused.TryGetMetadata(MetadataName.RetryAfter, out TimeSpan retryAfter).Should().BeTrue();
        retryAfter.Should().BePositive();
    }

    [Fact]
    public async Task A_look_charges_nothing()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(1, 3600));

        RateLimitDecision could = await limiter.AcquireDecisionAsync("one", 0);
        RateLimitDecision took = await limiter.AcquireDecisionAsync("one", 1);
        RateLimitDecision couldNot = await limiter.AcquireDecisionAsync("one", 0);

        (could.IsAdmitted, took.IsAdmitted, couldNot.IsAdmitted).Should().Be((true, true, false));
        couldNot.RetryAfter.Should().BePositive();
    }

    [Fact]
    public async Task The_real_cost_is_settled_in_the_store()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(100, 360_000));

        RateLimitDecision estimate = await limiter.AcquireDecisionAsync("one", 60);
        limiter.Settle(estimate, 10);
        RateLimitDecision less = await Until(limiter, decision => decision.Remaining == 90);
        RateLimitDecision another = await limiter.AcquireDecisionAsync("one", 20);
        limiter.Settle(another, 150);
        RateLimitDecision debt = await Until(limiter, decision => decision.Remaining == 0);

        less.IsAdmitted.Should().BeTrue();
        debt.RetryAfter.Should().BeCloseTo(TimeSpan.FromHours(61), TimeSpan.FromMinutes(1), "160 of 100 are charged, and one comes in an hour");
    }

    [Fact]
    public async Task A_refund_ends_a_refusal_that_this_node_remembers()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(10, 3600));
        RateLimitDecision charge = await limiter.AcquireDecisionAsync("one", 10);
        (await limiter.AcquireDecisionAsync("one")).IsAdmitted.Should().BeFalse();

        limiter.Settle(charge, 0);

        (await Until(limiter, decision => decision.IsAdmitted)).Remaining.Should().Be(10);
    }

    [Fact]
    public async Task A_refusal_that_was_on_its_way_when_permits_were_given_back_is_not_remembered()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(10, 360_000));
        int refused = 0;

        await Parallel.ForAsync(0, 2000, async (key, _) =>
        {
            RateLimitDecision charge = await limiter.AcquireDecisionAsync($"{key}", 10);
            Task<RateLimitDecision>[] others = [.. Enumerable.Range(0, 8).Select(_ => limiter.AcquireDecisionAsync($"{key}", 3).AsTask())];
            limiter.Settle(charge, 0);
            RateLimitDecision[] decisions = await Task.WhenAll(others);
            if (decisions.Count(decision => decision.IsAdmitted) < 3)
            {
                // What is settled is on its way.
                await RedisServer.WaitUntilAsync(() => _database.StringGet($"rate-limit:{limiter.Name}:{{t:{key}}}").ToString().Length > 0, "the store has answered");
                await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System);
                Interlocked.Add(ref refused, (await limiter.AcquireDecisionAsync($"{key}", 1)).IsAdmitted ? 0 : 1);
            }
        });

        refused.Should().Be(0);
    }

    [Fact]
    public async Task Who_goes_while_the_call_is_under_way_is_charged_nothing()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(1000, 3_600_000));
        int gone = 0;

        for (int i = 0; i < 100; i++)
        {
            using CancellationTokenSource source = new();
            Task<RateLimitDecision> asking = limiter.AcquireDecisionAsync("one", 5, source.Token).AsTask();
            await source.CancelAsync();
            try
            {
                limiter.Settle(await asking, 0);
            }
            catch (OperationCanceledException exception)
            {
                exception.CancellationToken.Should().Be(source.Token);
                gone++;
            }
        }

        gone.Should().BePositive();
        (await Until(limiter, decision => decision.Remaining == 1000)).IsAdmitted.Should().BeTrue();
        await limiter.Awaiting(it => it.AcquireDecisionAsync("one", 1, new CancellationToken(true)).AsTask()).Should().ThrowAsync<OperationCanceledException>();
    }

    [Fact]
    public async Task A_script_that_the_server_forgot_is_sent_again()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(1000, 3600));
        LogList log = new();
        await limiter.AcquireDecisionAsync("one");

        for (int i = 0; i < 5; i++)
        {
            await redis.Connection.GetServers()[0].ScriptFlushAsync();
            (await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => limiter.AcquireDecisionAsync("one").AsTask()))).Should().OnlyContain(decision => decision.IsAdmitted);
        }

        (await limiter.AcquireDecisionAsync("one", 0)).Remaining.Should().Be(1000 - 101);
        log.Entries.Should().BeEmpty();
    }

    [Fact]
    public async Task A_thousand_requests_at_once_are_admitted_to_the_limit_and_not_beyond()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(300, 360_000));

        RateLimitDecision[] decisions = await Task.WhenAll(Enumerable.Range(0, 1000).Select(_ => Task.Run(() => limiter.AcquireDecisionAsync("one").AsTask())));

        decisions.Count(decision => decision.IsAdmitted).Should().Be(300);
    }

    [Fact]
    public async Task Any_key_is_a_key_of_its_own_with_a_short_name_in_the_store()
    {
        string long1 = new('x', 1_000_000), long2 = new string('x', 999_999) + "y";
        RateLimitKey[] keys = ["", default, "-", "a", "A", "1", 1L, "n:1", long1, long2, "a{b}c", "}", "ä", "\0", "\ud800", "\ud801", new RateLimitKey(UInt128.MaxValue), "t:a", "h:a"];
        RedisTokenBucketLimiterOptions<RateLimitKey> options = new() { Name = "any", Connection = redis.Connection, KeySelector = key => key, StoreTimeout = TimeSpan.FromSeconds(10), KeyPrefix = $"{Guid.NewGuid():N}:" };
        options.Limits.Add(Per(1, 3600));
        using RedisTokenBucketLimiter<RateLimitKey> limiter = new(options);

        foreach (RateLimitKey key in keys)
        {
            (await limiter.AcquireDecisionAsync(key)).IsAdmitted.Should().BeTrue($"{key.ToString().Length} characters are a key of their own");
            (await limiter.AcquireDecisionAsync(key)).IsAdmitted.Should().BeFalse();
        }

        string[] names = [.. redis.Connection.GetServers()[0].Keys(pattern: options.KeyPrefix + "*").Select(key => key.ToString())];
        names.Should().HaveCount(keys.Length).And.OnlyContain(name => name.Length < 256 && name.All(c => c >= ' ' && c <= '~'));
    }

    [Fact]
    public async Task A_key_of_its_own_plan_has_its_own_limits_and_bad_plans_do_not_count()
    {
        LogList log = new();
        RateLimit[] gold = [Per(3, 3600)];
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(1, 3600), log: log, configure: o => o.LimitsFor = key => key switch
        {
            "gold" => gold,
            "bad" => [Per(-1, 1)],
            "two" => [Per(9, 1), Per(9, 1)],
            "throws" => throw new InvalidOperationException("no plan"),
            _ => null,
        });

        Dictionary<string, long> remaining = [];
        foreach (string key in new[] { "gold", "bad", "two", "throws", "other" })
        {
            remaining[key] = (await limiter.AcquireDecisionAsync(key)).Remaining;
        }

        remaining.Should().Equal(new Dictionary<string, long> { ["gold"] = 2, ["bad"] = 0, ["two"] = 0, ["throws"] = 0, ["other"] = 0 });
        log.Entries.Should().ContainSingle("it is told once a minute").Which.Message.Should().Contain("LimitsFor");
    }

    [Fact]
    public async Task A_selector_that_throws_counts_as_no_key()
    {
        LogList log = new();
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(1, 3600), o => o.KeySelector = key => key == "bad" ? throw new InvalidOperationException("no key") : key, log: log);

        bool first = (await limiter.AcquireDecisionAsync("bad")).IsAdmitted, second = (await limiter.AcquireDecisionAsync(null!)).IsAdmitted;

        (first, second).Should().Be((true, false));
        log.Entries.Should().ContainSingle().Which.Message.Should().Contain("KeySelector");
    }

    [Fact]
    public async Task Shadow_mode_admits_what_it_would_refuse_and_says_so()
    {
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(1, 3600), o => o.Shadow = true);
        await limiter.AcquireDecisionAsync("one");

        RateLimitDecision decision = await limiter.AcquireDecisionAsync("one");
        limiter.Settle(decision, 0);

        (decision.IsAdmitted, decision.IsShadowRefusal, decision.Remaining).Should().Be((true, true, 0));
        decision.RetryAfter.Should().BePositive();
    }

    [Fact]
    public async Task New_limits_keep_what_was_used_and_bad_ones_are_refused()
    {
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, Per(10, 36_000));
        using RedisTokenBucketLimiter<string> limiter = new(options), stillOld = new(options);
        await limiter.AcquireDecisionAsync("one", 6);

        options.Limits[0] = Per(20, 36_000);
        limiter.Update(options);
        RateLimitDecision more = await limiter.AcquireDecisionAsync("one", 0);
        options.StoreTimeout = TimeSpan.Zero;
        limiter.Invoking(it => it.Update(options)).Should().Throw<Microsoft.Extensions.Options.OptionsValidationException>();
        RateLimitDecision old = await stillOld.AcquireDecisionAsync("one", 1);

        more.Remaining.Should().Be(14);
        old.Remaining.Should().Be(3, "nodes with old and new options share what was used");
    }

    [Fact]
    public async Task A_request_that_began_under_another_prefix_leaves_nothing_behind()
    {
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, Per(10, 36_000), o => o.LeaseSize = 2);
        RedisTokenBucketLimiter<string>? limiter = null;
        options.KeySelector = key =>
        {
            if (limiter is not null && options.KeyPrefix != "moved:")
            {
                options.KeyPrefix = "moved:";
                limiter.Update(options);
            }

            return key;
        };
        limiter = new(options);

        for (int i = 0; i < 20; i++)
        {
            await limiter.AcquireDecisionAsync("one");
        }

        limiter.Dispose();
        using RedisTokenBucketLimiter<string> other = Make(redis.Connection, Per(10, 36_000), o => (o.Name, o.KeyPrefix) = (options.Name, "moved:"));
        (await other.AcquireDecisionAsync("one")).IsAdmitted.Should().BeFalse("all but the first request were counted there");
    }

    [Fact]
    public async Task After_disposal_calls_throw()
    {
        RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(10, 36_000));

        await limiter.DisposeAsync();
        limiter.Dispose();

        limiter.Invoking(it => it.TryAcquire("one", 1, out _)).Should().Throw<ObjectDisposedException>();
        await limiter.Awaiting(it => it.AcquireDecisionAsync("one").AsTask()).Should().ThrowAsync<ObjectDisposedException>();
    }

    [Fact]
    public async Task What_this_node_remembers_is_bounded()
    {
        FakeTimeProvider time = new();
        using RedisTokenBucketLimiter<string> limiter = Make(redis.Connection, Per(1, 3600), o => o.Capacity = 64, time);

        for (int i = 0; i < 500; i++)
        {
            await limiter.AcquireDecisionAsync($"key {i}");
            (await limiter.AcquireDecisionAsync($"key {i}")).IsAdmitted.Should().BeFalse();
        }

        limiter.RememberedKeys.Should().BeInRange(32, 65);
        (await limiter.AcquireDecisionAsync("key 0")).IsAdmitted.Should().BeFalse("what is forgotten is asked for again");
    }

    [Fact]
    public async Task The_nodes_own_clock_does_not_matter()
    {
        FakeTimeProvider anHourAhead = new(DateTimeOffset.UnixEpoch.AddYears(60)), anHourBehind = new(DateTimeOffset.UnixEpoch);
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, Per(10, 36_000));
        using RedisTokenBucketLimiter<string> ahead = new(options, anHourAhead), behind = new(options, anHourBehind);

        await ahead.AcquireDecisionAsync("one", 4);
        await behind.AcquireDecisionAsync("one", 4);

        (await ahead.AcquireDecisionAsync("one", 2)).Remaining.Should().Be(0);
        (await behind.AcquireDecisionAsync("one", 1)).IsAdmitted.Should().BeFalse();
    }

    [Fact]
    public async Task A_key_under_which_the_store_holds_something_else_goes_down_the_ladder_alone()
    {
        LogList log = new();
        RedisTokenBucketLimiterOptions<string> options = Options(redis.Connection, Per(2, 3600), o => o.Nodes = () => 2);
        using RedisTokenBucketLimiter<string> limiter = new(options, null, log);
        await _database.ListRightPushAsync($"{options.KeyPrefix}{options.Name}:{{t:list}}", "not ours");
        await _database.StringSetAsync($"{options.KeyPrefix}{options.Name}:{{t:text}}", "not ours");

        bool[] list = [(await limiter.AcquireDecisionAsync("list")).IsAdmitted, (await limiter.AcquireDecisionAsync("list")).IsAdmitted];
        bool[] text = [(await limiter.AcquireDecisionAsync("text")).IsAdmitted, (await limiter.AcquireDecisionAsync("text")).IsAdmitted];
        RateLimitDecision other = await limiter.AcquireDecisionAsync("one");

        list.Should().Equal(true, false);
        text.Should().Equal(true, false);
        other.Remaining.Should().Be(1, "the store is asked for other keys all the same");
        log.Entries.Should().ContainSingle().Which.Message.Should().Contain("{t:list}").And.Contain("KeyPrefix");
    }

    /// <summary>Looks until it is so: what is settled is on its way.</summary>
    private static async Task<RateLimitDecision> Until(RedisTokenBucketLimiter<string> limiter, Func<RateLimitDecision, bool> condition)
    {
        RateLimitDecision decision = default;
        for (int i = 0; i < 400; i++)
        {
            decision = await limiter.AcquireDecisionAsync("one", 0);
            if (condition(decision))
            {
                break;
            }

            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
        }

        condition(decision).Should().BeTrue("it must be so after two seconds");
        return decision;
    }
}
