using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using Backend.Toolkit.Tests;
using StackExchange.Redis;
using static Backend.Toolkit.RateLimiting.Redis.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Redis.Tests;

[Collection("The meter")]
public sealed class TelemetryTests
{
    [Fact]
    public async Task What_was_decided_and_by_whom_is_counted_and_calls_and_transitions_are_too()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        string name = $"counted-{Guid.NewGuid():N}";
        ConcurrentDictionary<string, long> counts = new();
        using MeterListener listener = Listen(name, counts);
        RedisTokenBucketLimiterOptions<string> options = Options(connection, Per(2, 360_000), o => (o.Name, o.LeaseSize, o.FailOpen) = (name, 1, true));
        using RedisTokenBucketLimiter<string> limiter = new(options);

        await limiter.AcquireDecisionAsync("one");
        await limiter.AcquireDecisionAsync("one");
        await limiter.AcquireDecisionAsync("one");
        await connection.GetDatabase().StringSetAsync($"{options.KeyPrefix}{name}:{{t:foreign}}", "not ours");
        await limiter.AcquireDecisionAsync("foreign");
        options.LocalFallback = false;
        options.Shadow = true;
        limiter.Update(options);
        server.Kill();
        await limiter.AcquireDecisionAsync("one");
        await limiter.AcquireDecisionAsync("two");
        await limiter.AcquireDecisionAsync("two");
        await limiter.AcquireDecisionAsync("two");
        await server.RestartAsync();
        await RedisServer.WaitUntilAsync(() => limiter.AcquireDecisionAsync("three").AsTask().Result.IsAdmitted && counts.ContainsKey("transitions up"), "the store is asked again");

        counts["requests admitted store"].Should().BeGreaterThanOrEqualTo(1);
        counts["requests admitted node"].Should().Be(1);
        counts["requests refused node"].Should().Be(1);
        counts["requests admitted local_bucket"].Should().Be(1);
        counts["requests shadow_refused node"].Should().Be(1);
        counts["requests admitted outage"].Should().BeGreaterThanOrEqualTo(3);
        counts["calls foreign"].Should().Be(1);
        counts["calls failed"].Should().BeGreaterThanOrEqualTo(3);
        counts["transitions down"].Should().Be(1);
        counts["transitions up"].Should().Be(1);
    }

    [Fact]
    public async Task A_listener_that_throws_changes_nothing()
    {
        await using RedisServer server = await RedisServer.StartAsync();
        await using ConnectionMultiplexer connection = await server.ConnectAsync();
        using RedisTokenBucketLimiter<string> limiter = Make(connection, Per(2, 360_000));
        string name = limiter.Name;
        using MeterListener listener = new();
        listener.InstrumentPublished = (instrument, it) =>
        {
            if (instrument.Meter.Name == "Backend.Toolkit.RateLimiting.Redis")
            {
                it.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<long>((_, _, tags, _) =>
        {
            if (tags.Contains(new KeyValuePair<string, object?>("name", name)))
            {
                throw new InvalidOperationException("a listener");
            }
        });
        listener.Start();

        (await limiter.AcquireDecisionAsync("one")).IsAdmitted.Should().BeTrue();
        server.Kill();
        (await limiter.AcquireDecisionAsync("one")).IsAdmitted.Should().BeTrue();
    }

    private static MeterListener Listen(string name, ConcurrentDictionary<string, long> counts)
    {
        MeterListener listener = new()
        {
            InstrumentPublished = (instrument, it) =>
            {
                if (instrument.Meter.Name == "Backend.Toolkit.RateLimiting.Redis")
                {
                    it.EnableMeasurementEvents(instrument);
                }
            },
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) =>
        {
            if (tags[0].Value is string told && told == name)
            {
                string key = $"{instrument.Name.Split('.')[^1]} {string.Join(' ', tags[1..].ToArray().Select(tag => tag.Value))}";
                counts.AddOrUpdate(key, value, (_, before) => before + value);
            }
        });
        listener.Start();
        return listener;
    }
}
