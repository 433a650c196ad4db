using System.Buffers.Binary;
using CsCheck;
using Microsoft.Extensions.Time.Testing;
using StackExchange.Redis;
using static Backend.Toolkit.RateLimiting.Redis.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Redis.Tests;

/// <summary>The bucket in the store, against published numbers and an exact reference, on a real server with a clock that the test sets.</summary>
public sealed class ScriptTests(RedisFixture redis) : IClassFixture<RedisFixture>
{
    private const long Start = 1_700_000_000_000_000;

    private readonly IDatabase _database = redis.Connection.GetDatabase();
    private readonly string _name = Guid.NewGuid().ToString("N");

    /// <summary>The table that throttled (github.com/throttled/throttled) and redis-cell publish for GCRA: limit 5, 1 a second.</summary>
    [Fact]
    public async Task The_bucket_says_what_the_published_table_says()
    {
        (double At, int Cost, bool Admitted, int Remaining, double Reset, double Retry)[] table =
        [
            (0, 6, false, 5, 0, -1),
            (0, 1, true, 4, 1, 0),
            (0, 1, true, 3, 2, 0),
            (0, 1, true, 2, 3, 0),
            (0, 1, true, 1, 4, 0),
            (0, 1, true, 0, 5, 0),
            (0, 1, false, 0, 5, 1),
            (3.0, 1, true, 2, 3, 0),
            (3.1, 1, true, 1, 3.9, 0),
            (4.0, 1, true, 1, 4.0, 0),
            (8.0, 1, true, 4, 1.0, 0),
            (9.5, 1, true, 4, 1.0, 0),
            (9.5, 0, true, 4, 1.0, 0),
            (9.5, 2, true, 2, 3.0, 0),
            (9.5, 5, false, 2, 3.0, 3.0),
            (15, 6, false, 5, 0, -1),
        ];
        StoreClock clock = new(_database, _name);
        FakeTimeProvider time = new();
        DateTimeOffset start = time.GetUtcNow();
        using RedisTokenBucketLimiter<string> limiter = new(Options(redis.Connection, PerSecond(1, burst: 5)), time, null, clock.Script);

        foreach (var row in table)
        {
            await clock.SetAsync(Start + (long)(row.At * 1e6));
            time.SetUtcNow(start.AddSeconds(row.At));
            RateLimitDecision decision = await limiter.AcquireDecisionAsync("key", row.Cost);

            (row.At, row.Cost, decision.IsAdmitted, decision.Remaining, decision.ResetAfter, decision.RetryAfter).Should().Be((
                row.At, row.Cost, row.Admitted, (long)row.Remaining, TimeSpan.FromSeconds(row.Reset), row.Retry < 0 ? Timeout.InfiniteTimeSpan : TimeSpan.FromSeconds(row.Retry)));
        }
    }

    [Fact]
    public void Any_trace_is_admitted_as_an_exact_reference_admits_it_and_retry_after_is_true_to_the_microsecond()
    {
        var limit = Gen.Select(Gen.Int[1, 10_000], Gen.OneOf(Gen.Int[1, 1000], Gen.Const(86_400_000)), Gen.OneOf(Gen.Int[1, 10], Gen.Int[1, 10_000]))
            .Select((permits, milliseconds, burst) => new RateLimit(permits, TimeSpan.FromMilliseconds(milliseconds), burst));
        var step = Gen.Select(Gen.OneOf(Gen.Int[0, 3], Gen.Int[0, 10_000]), Gen.OneOf(Gen.Const(0L), Gen.Long[0, 1000], Gen.Long[0, 10_000_000], Gen.Const(1L << 36)));
        int trace = 0;

        Gen.Select(limit.Array[1, 3], step.Array[1, 25]).Sample((limits, steps) =>
        {
            StoreClock clock = new(_database, _name);
            RedisKey key = $"{_name}:{Interlocked.Increment(ref trace)}";
            BucketPlan plan = new(limits);
            ExactBucket[] reference = [.. limits.Select(each => new ExactBucket(each))];
            long now = Start;
            foreach ((int cost, long wait) in steps)
            {
                now += wait;
                clock.SetAsync(now).Wait();
                int permits = Math.Min(cost, plan.Most);
                bool admitted = Acquire(clock, key, plan, permits, out BucketReply reply);

                admitted.Should().Be(reference.All(bucket => bucket.Fits(now, permits)), "the reference says so");
                if (admitted)
                {
                    Array.ForEach(reference, bucket => bucket.Charge(now, permits));
                }
                else
                {
                    long due = now + plan.AdmitsAfter(reply.Debts, 0, Math.Max(1, permits));
                    reference.All(bucket => bucket.Fits(due, permits)).Should().BeTrue("at its retry-after it is admitted");
                    reference.All(bucket => bucket.Fits(due - 1, permits)).Should().BeFalse("and not a microsecond earlier");
                }

                plan.Remaining(reply.Debts, 0).Should().Be(reference.Min(bucket => bucket.Remaining(now)));
            }
        }, iter: 150, threads: 1);
    }

    [Theory]
    [InlineData(7_000_000, 1, 7_000_000)]
    [InlineData(1, 86_400, 1)]
    [InlineData(1, 86_400, int.MaxValue / 4)]
    [InlineData(300_000_000, 1, int.MaxValue)]
    [InlineData(1_234_567, 1, 5_000_000)]
    [InlineData(0.1, 1, 3)]
    public async Task A_rate_is_exact_over_years(double permits, double seconds, int burst)
    {
        StoreClock clock = new(_database, _name);
        await clock.SetAsync(Start);
        RateLimit limit = Per(permits, seconds, burst);
        BucketPlan plan = new([limit]);
        ExactBucket reference = new(limit);
        Random random = new(20);

        for (long now = Start; now < Start + (3L * 365 * 86_400 * 1_000_000); now += random.NextInt64(1, 30L * 86_400 * 1_000_000))
        {
            await clock.SetAsync(now);
            int cost = (int)reference.Remaining(now);
            if (cost > 0)
            {
                Acquire(clock, _name, plan, cost, out _).Should().BeTrue();
                reference.Charge(now, cost);
            }

            Acquire(clock, _name, plan, 1, out _).Should().BeFalse("the reference has none left");
        }
    }

    [Fact]
    public void A_refund_never_admits_more_than_if_the_charge_had_not_been()
    {
        var step = Gen.Select(Gen.Int[0, 5], Gen.Int[1, 6], Gen.Long[0, 4_000_000]);
        int trace = 0;

        step.Array[2, 20].Sample(steps =>
        {
            StoreClock clock = new(_database, _name);
            int run = Interlocked.Increment(ref trace);
            (RedisKey with, RedisKey without) = ($"{_name}:with:{run}", $"{_name}:without:{run}");
            BucketPlan plan = new([PerSecond(1, burst: 10), Per(7, 3, burst: 12)]);
            List<(BucketReply With, BucketReply Without, int Permits)> charges = [];
            long now = Start;
            clock.SetAsync(now).Wait();

            // The first charge is taken back at some time; the other bucket never had it. Whoever the first admits, the other must admit too.
            Acquire(clock, with, plan, 6, out BucketReply first);
            bool isTakenBack = false;
            foreach ((int kind, int permits, long wait) in steps)
            {
                now += wait;
                clock.SetAsync(now).Wait();
                if (kind == 0 && !isTakenBack)
                {
                    clock.Script.SettleAsync(_database, with, first, 6, 6).Wait();
                    isTakenBack = true;
                }
                else if (kind == 1 && charges.Count > 0)
                {
                    (BucketReply chargeWith, BucketReply chargeWithout, int charged) = charges[^1];
                    charges.RemoveAt(charges.Count - 1);
                    clock.Script.SettleAsync(_database, with, chargeWith, charged, charged).Wait();
                    clock.Script.SettleAsync(_database, without, chargeWithout, charged, charged).Wait();
                }
                else if (Acquire(clock, with, plan, permits, out BucketReply reply))
                {
                    Acquire(clock, without, plan, permits, out BucketReply other).Should().BeTrue("the bucket without the charge has at least as much");
                    charges.Add((reply, other, permits));
                }
            }

            Acquire(clock, with, plan, 0, out BucketReply left);
            Acquire(clock, without, plan, 0, out BucketReply more);
            left.Debts.Zip(more.Debts).Should().OnlyContain(pair => pair.First >= pair.Second);
        }, iter: 150, threads: 1);
    }

    [Fact]
    public async Task A_refund_gives_back_what_has_not_drained_since()
    {
        StoreClock clock = new(_database, _name);
        await clock.SetAsync(Start);
        BucketPlan plan = new([PerSecond(1, burst: 10)]);
        Acquire(clock, _name, plan, 2, out _);
        Acquire(clock, _name, plan, 6, out BucketReply charge);
        await clock.AddAsync(3_000_000);

        await clock.Script.SettleAsync(_database, _name, charge, 6, 6);

        // 8 were missing and 5 are; without the charge it would be none: three drained, two of which were of the first charge.
        Acquire(clock, _name, plan, 0, out BucketReply after);
        plan.Remaining(after.Debts, 0).Should().Be(10);
    }

    [Fact]
    public async Task A_refund_for_a_key_that_has_expired_since_and_was_made_again_gives_nothing_back()
    {
        StoreClock clock = new(_database, _name);
        await clock.SetAsync(Start);
        BucketPlan plan = new([PerSecond(1, burst: 10)]);
        Acquire(clock, _name, plan, 8, out BucketReply before);
        await clock.Script.SettleAsync(_database, _name, before, 8, 8);
        Acquire(clock, _name, plan, 5, out BucketReply charge);
        await clock.AddAsync(5_000_000);
        await _database.KeyDeleteAsync(_name);
        Acquire(clock, _name, plan, 10, out _);

        await clock.Script.SettleAsync(_database, _name, charge, 5, 5);

        Acquire(clock, _name, plan, 1, out _).Should().BeFalse("what was charged before has drained, and ten are charged now");
    }

    [Fact]
    public async Task The_count_of_what_was_given_back_begins_anew_where_its_numbers_end()
    {
        StoreClock clock = new(_database, _name);
        await clock.SetAsync(Start);
        BucketPlan plan = new([PerSecond(1, burst: 1000)]);
        Acquire(clock, _name, plan, 100, out _);
        byte[] value = (byte[])(await _database.StringGetAsync(_name))!;
        BinaryPrimitives.WriteDoubleBigEndian(value.AsSpan(10), (1L << 52) - 50);
        await _database.StringSetAsync(_name, value);
        Acquire(clock, _name, plan, 300, out BucketReply first);
        Acquire(clock, _name, plan, 200, out BucketReply second);

        await clock.Script.SettleAsync(_database, _name, second, 200, 200);
        await clock.Script.SettleAsync(_database, _name, first, 300, 300);

        Acquire(clock, _name, plan, 0, out BucketReply after);
        (after.Refunded, plan.Remaining(after.Debts, 0)).Should().Be((450, 900));
    }

    [Fact]
    public async Task A_refund_counts_what_earlier_charges_were_given_back_since()
    {
        StoreClock clock = new(_database, _name);
        await clock.SetAsync(Start);
        BucketPlan plan = new([PerSecond(1, burst: 100)]);
        Acquire(clock, _name, plan, 50, out BucketReply first);
        Acquire(clock, _name, plan, 50, out BucketReply second);
        await clock.Script.SettleAsync(_database, _name, first, 50, 50);
        await clock.AddAsync(10_000_000);
        Acquire(clock, _name, plan, 30, out _);

        await clock.Script.SettleAsync(_database, _name, second, 50, 50);

        Acquire(clock, _name, plan, 0, out BucketReply after);
        plan.Remaining(after.Debts, 0).Should().Be(70, "ten of the second fifty drained meanwhile, and the third charge is there in full");
    }

    [Fact]
    public async Task A_debt_is_charged_without_asking()
    {
        StoreClock clock = new(_database, _name);
        await clock.SetAsync(Start);
        BucketPlan plan = new([PerSecond(1, burst: 10)]);
        Acquire(clock, _name, plan, 1, out BucketReply charge);

        await clock.Script.SettleAsync(_database, _name, charge, 1, -29);

        Acquire(clock, _name, plan, 1, out BucketReply refused).Should().BeFalse();
        plan.AdmitsAfter(refused.Debts, 0, 1).Should().Be(21_000_000);
    }

    [Fact]
    public async Task A_key_expires_when_it_has_drained_and_not_before()
    {
        BucketScript script = new();
        BucketPlan plan = new([PerSecond(10, burst: 1000), PerSecond(100, burst: 2000)]);

        BucketReply charge = await script.AcquireAsync(_database, _name, plan, 500, 500);
        TimeSpan life = (await _database.KeyTimeToLiveAsync(_name))!.Value;
        await script.SettleAsync(_database, _name, charge, 500, 400);
        TimeSpan lifeAfterRefund = (await _database.KeyTimeToLiveAsync(_name))!.Value;
        await script.SettleAsync(_database, _name, charge, 500, -200);
        TimeSpan lifeInDebt = (await _database.KeyTimeToLiveAsync(_name))!.Value;

        life.Should().BeGreaterThan(TimeSpan.FromSeconds(49)).And.BeLessThanOrEqualTo(TimeSpan.FromSeconds(50.002));
        lifeAfterRefund.Should().BeGreaterThan(TimeSpan.FromSeconds(48), "a charge finds the state that it changed").And.BeLessThanOrEqualTo(life);
        lifeInDebt.Should().BeGreaterThan(TimeSpan.FromSeconds(29)).And.BeLessThanOrEqualTo(TimeSpan.FromSeconds(30.002));
    }

    [Fact]
    public async Task What_was_used_stays_used_when_the_limits_change()
    {
        StoreClock clock = new(_database, _name);
        await clock.SetAsync(Start);
        Acquire(clock, _name, new BucketPlan([PerSecond(10, burst: 100)]), 60, out _);
        BucketPlan plan = new([Per(7, 3, burst: 5), PerSecond(1, burst: 80)]);

        Acquire(clock, _name, plan, 1, out BucketReply reply).Should().BeTrue();

        plan.Remaining(reply.Debts, 0).Should().Be(4);
        new BucketPlan([plan.Limits[1]]).Remaining(reply.Debts.AsSpan(0, 1), 0).Should().Be(80 - 61, "limits are known by their order of periods");
    }

    [Fact]
    public async Task Limits_in_another_order_are_the_same_limits()
    {
        StoreClock clock = new(_database, _name);
        await clock.SetAsync(Start);
        RateLimit perSecond = PerSecond(10, burst: 100), perHour = Per(1000, 3600);
        Acquire(clock, _name, new BucketPlan([perSecond, perHour]), 60, out _);
        await clock.AddAsync(6_000_000);

        Acquire(clock, _name, new BucketPlan([perHour, perSecond]), 1, out BucketReply reply);

        new BucketPlan([perSecond]).Remaining(reply.Debts.AsSpan(0, 1), 0).Should().Be(99);
        new BucketPlan([perHour]).Remaining(reply.Debts.AsSpan(1, 1), 0).Should().Be(1000 - 61 + 1);
    }

    [Fact]
    public async Task A_clock_that_goes_back_neither_admits_more_nor_stops_the_bucket()
    {
        StoreClock clock = new(_database, _name);
        await clock.SetAsync(Start);
        BucketPlan plan = new([PerSecond(1, burst: 3)]);
        Acquire(clock, _name, plan, 3, out _);

        await clock.AddAsync(-3_600_000_000);
        bool atOnce = Acquire(clock, _name, plan, 1, out _);
        await clock.AddAsync(999_999);
        bool early = Acquire(clock, _name, plan, 1, out _);
        await clock.AddAsync(1);
        bool due = Acquire(clock, _name, plan, 1, out _);

        (atOnce, early, due).Should().Be((false, false, true));
    }

    [Theory]
    [InlineData("")]
    [InlineData("17")]
    [InlineData("b1 and sixteen characters, twice!!")]
    [InlineData("b1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")]
    [InlineData("b1\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f")]
    [InlineData("b1\0\0\0\0\0\0\0\0~~~~~~~~@\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")]
    [InlineData("b1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0@\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0@\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0@\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0@\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0@\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")]
    public async Task A_key_that_holds_something_else_is_left_alone(string value)
    {
        await _database.StringSetAsync(_name, value);

        Func<Task> acquire = () => new BucketScript().AcquireAsync(_database, _name, new BucketPlan([PerSecond(1)]), 1, 1);

        (await acquire.Should().ThrowAsync<RedisServerException>()).Which.Message.Should().StartWith(BucketScript.ForeignValue);
        ((string?)await _database.StringGetAsync(_name)).Should().Be(value);
    }

    private bool Acquire(StoreClock clock, RedisKey key, BucketPlan plan, int permits, out BucketReply reply)
    {
        reply = clock.Script.AcquireAsync(_database, key, plan, permits, permits).Result;
        return permits == 0 ? plan.Remaining(reply.Debts, 0) > 0 : reply.Granted > 0;
    }
}
