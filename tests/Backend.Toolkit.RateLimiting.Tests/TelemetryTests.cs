using System.Diagnostics.Metrics;
using Microsoft.Extensions.Time.Testing;
using static Backend.Toolkit.RateLimiting.Tests.Limiters;

namespace Backend.Toolkit.RateLimiting.Tests;

/// <remarks>One after the other: whoever listens to the meter makes everybody's requests cost memory.</remarks>
[Collection("The meter")]
public sealed class TelemetryTests
{
    [Fact]
    public void Requests_are_counted_by_name_and_result()
    {
        using Metrics metrics = new("counted");
        var limiter = new TokenBucketLimiter(With(new TokenBucketLimiterOptions { Name = "counted" }, Per(2, 60)), new FakeTimeProvider());

        for (int i = 0; i < 5; i++)
        {
            limiter.TryAcquire(1, out _);
        }

        metrics.Of("backend.toolkit.ratelimit.requests", "admitted").Should().Be(2);
        metrics.Of("backend.toolkit.ratelimit.requests", "refused").Should().Be(3);
    }

    [Fact]
    public async Task Shadow_mode_admits_all_charges_as_ever_and_counts_what_it_would_refuse()
    {
        using Metrics metrics = new("shadow");
        FakeTimeProvider time = new();
        var limiter = new TokenBucketLimiter(With(new TokenBucketLimiterOptions { Name = "shadow", Shadow = true, QueueLimit = 5 }, Per(2, 20)), time);

        limiter.TryAcquire(2, out RateLimitDecision real).Should().BeTrue();
        limiter.TryAcquire(1, out RateLimitDecision shadow).Should().BeTrue();
        RateLimitDecision waited = await limiter.AcquireDecisionAsync(1);
        limiter.TryAcquire(3, out RateLimitDecision never).Should().BeTrue();

        (real.IsShadowRefusal, shadow.IsShadowRefusal, waited.IsShadowRefusal, never.IsShadowRefusal).Should().Be((false, true, true, true));
        shadow.RetryAfter.Should().Be(TimeSpan.FromSeconds(10));
        metrics.Of("backend.toolkit.ratelimit.requests", "shadow_refused").Should().Be(3);
        limiter.Settle(shadow, 0);
        limiter.Settle(never, 3);
        time.Advance(TimeSpan.FromSeconds(10));
        limiter.TryAcquire(1, out RateLimitDecision again);
        again.IsShadowRefusal.Should().BeFalse();
    }

    [Fact]
    public async Task Those_who_wait_are_counted_while_they_wait()
    {
        using Metrics metrics = new("waits");
        FakeTimeProvider time = new();
        var limiter = new TokenBucketLimiter(With(new TokenBucketLimiterOptions { Name = "waits", QueueLimit = 5 }, Per(1, 1)), time);
        limiter.TryAcquire(1, out _);

        Task<RateLimitDecision> wait = limiter.AcquireDecisionAsync().AsTask();

        metrics.Of("backend.toolkit.ratelimit.waiting").Should().Be(1);
        time.Advance(TimeSpan.FromSeconds(1));
        await wait.WaitAsync(TimeSpan.FromSeconds(30));
        metrics.Of("backend.toolkit.ratelimit.waiting").Should().Be(0);
        metrics.Of("backend.toolkit.ratelimit.requests", "admitted").Should().Be(2);
    }

    [Fact]
    public void Keys_in_use_that_are_forgotten_are_counted()
    {
        using Metrics metrics = new("evicts");
        var limiter = new KeyedTokenBucketLimiter<long>(With(new KeyedTokenBucketLimiterOptions<long> { Name = "evicts", KeySelector = key => key, Capacity = 64 }, Per(1, 60)), new FakeTimeProvider());

        for (int i = 0; i < 1000; i++)
        {
            limiter.TryAcquire(i, 1, out _);
        }

        metrics.Of("backend.toolkit.ratelimit.evictions").Should().BeInRange(1000 - 68, 1000 - 40);
    }

    [Fact]
    public void A_listener_that_throws_replaces_nothing()
    {
        using MeterListener listener = new()
        {
            InstrumentPublished = (instrument, self) =>
            {
                if (instrument.Meter.Name == "Backend.Toolkit.RateLimiting")
                {
                    self.EnableMeasurementEvents(instrument);
                }
            },
        };
        listener.SetMeasurementEventCallback<long>((_, _, tags, _) =>
        {
            if (tags.Contains(new KeyValuePair<string, object?>("name", "throws")))
            {
                throw new InvalidOperationException("no");
            }
        });
        listener.Start();
        var limiter = new TokenBucketLimiter(With(new TokenBucketLimiterOptions { Name = "throws" }, Per(1, 60)), new FakeTimeProvider());

        limiter.TryAcquire(1, out _).Should().BeTrue();
        limiter.TryAcquire(1, out _).Should().BeFalse();
    }

    [Fact]
    public void A_key_selector_that_throws_is_logged_and_the_request_counts_as_one_without_a_key()
    {
        LogList log = new();
        var limiter = new KeyedTokenBucketLimiter<string>(With(new KeyedTokenBucketLimiterOptions<string> { Name = "keys", KeySelector = key => key == "bad" ? throw new InvalidOperationException("no") : null }, Per(1, 60)), new FakeTimeProvider(), log);

        limiter.TryAcquire("bad", 1, out _).Should().BeTrue();
        limiter.TryAcquire("good", 1, out _).Should().BeFalse();

        log.Entries.Should().ContainSingle().Which.Message.Should().Contain("'keys'").And.Contain("KeySelector");
    }

    [Fact]
    public void Limits_of_a_key_that_cannot_be_used_are_logged_once_and_the_limiters_hold()
    {
        LogList log = new();
        IReadOnlyList<RateLimit>[] bad = [[], [Per(5, 1), Per(5, 1)], [Per(-1, 1)], [null!], [Per(double.NaN, 1)]];
        var limiter = new KeyedTokenBucketLimiter<string>(With(new KeyedTokenBucketLimiterOptions<string> { Name = "plans", KeySelector = key => key, LimitsFor = key => bad[int.Parse(key)] }, Per(2, 60)), new FakeTimeProvider(), log);

        for (int i = 0; i < bad.Length; i++)
        {
            limiter.TryAcquire($"{i}", 2, out _).Should().BeTrue();
            limiter.TryAcquire($"{i}", 1, out _).Should().BeFalse();
            limiter.LimitsOf($"{i}").Should().Equal(Per(2, 60));
        }

        log.Entries.Should().ContainSingle().Which.Message.Should().Contain("'plans'").And.Contain("LimitsFor");
    }

    [Fact]
    public void Limits_that_throw_and_ever_new_ones_leave_the_limiters_in_force()
    {
        LogList log = new();
        var throws = new KeyedTokenBucketLimiter<string>(With(new KeyedTokenBucketLimiterOptions<string> { KeySelector = key => key, LimitsFor = _ => throw new InvalidOperationException("no") }, Per(1, 60)), new FakeTimeProvider(), log);
        var many = new KeyedTokenBucketLimiter<string>(With(new KeyedTokenBucketLimiterOptions<string> { KeySelector = key => key, LimitsFor = key => [Per(int.Parse(key) + 10, 60)] }, Per(1, 60)), new FakeTimeProvider(), log);

        throws.TryAcquire("a", 1, out _).Should().BeTrue();
        throws.TryAcquire("a", 1, out _).Should().BeFalse();
        int own = Enumerable.Range(0, 1000).Count(key => many.TryAcquire($"{key}", 5, out _));

        own.Should().Be(254);
    }

    private sealed class Metrics : IDisposable
    {
        private readonly MeterListener _listener = new();
        private readonly Dictionary<string, long> _sums = [];
        private readonly string _name;

        public Metrics(string name)
        {
            _name = name;
            _listener.InstrumentPublished = (instrument, self) =>
            {
                if (instrument.Meter.Name == "Backend.Toolkit.RateLimiting")
                {
                    self.EnableMeasurementEvents(instrument);
                }
            };
            _listener.SetMeasurementEventCallback<long>(Record);
            _listener.Start();
        }

        public long Of(string instrument, string? result = null)
        {
            lock (_sums)
            {
                return _sums.GetValueOrDefault($"{instrument} {result}");
            }
        }

        public void Dispose() => _listener.Dispose();

        private void Record(Instrument instrument, long value, ReadOnlySpan<KeyValuePair<string, object?>> tags, object? state)
        {
            string? name = null, result = null;
            foreach ((string key, object? tag) in tags)
            {
                (name, result) = key == "name" ? ((string?)tag, result) : (name, (string?)tag);
            }

            if (name == _name)
            {
                lock (_sums)
                {
                    _sums[$"{instrument.Name} {result}"] = _sums.GetValueOrDefault($"{instrument.Name} {result}") + value;
                }
            }
        }
    }
}
