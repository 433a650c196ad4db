using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>The buckets of this node alone, for the time of an outage: the limits divided by the number of nodes. Made when first needed.</summary>
/// <param name="keySelector">By what is counted; does not throw.</param>
/// <param name="planOf">The limits of a resource; does not throw.</param>
/// <param name="timeProvider">The source of this node's time.</param>
internal sealed class LocalBuckets<TResource>(Func<TResource, RateLimitKey> keySelector, Func<TResource, BucketPlan> planOf, TimeProvider timeProvider) : IDisposable
{
    private static readonly TimeSpan LongestPeriodOfAPermit = TimeSpan.FromDays(3650);

    private readonly Lock _lock = new();
    private KeyedTokenBucketLimiter<TResource>? _limiter;
    private (RedisTokenBucketLimiterSettings<TResource>? Settings, int Nodes) _madeFor;

    /// <summary>What this node's share of the limits says.</summary>
    public RateLimitDecision Decide(TResource resource, int permits, RedisTokenBucketLimiterSettings<TResource> settings, int nodes)
    {
        For(settings, nodes).TryAcquire(resource, permits, out RateLimitDecision decision);
        return decision;
    }

    public void Settle(in RateLimitDecision decision, int actual) => _limiter?.Settle(decision, actual);

    public void Dispose()
    {
        lock (_lock)
        {
            _limiter?.Dispose();
        }
    }

    private KeyedTokenBucketLimiter<TResource> For(RedisTokenBucketLimiterSettings<TResource> settings, int nodes)
    {
        lock (_lock)
        {
            if (_limiter is null)
            {
                _limiter = new KeyedTokenBucketLimiter<TResource>(Options(settings, nodes), timeProvider);
            }
            else if (_madeFor != (settings, nodes))
            {
                _limiter.Update(Options(settings, nodes));
            }

            _madeFor = (settings, nodes);
            return _limiter;
        }
    }

    private KeyedTokenBucketLimiterOptions<TResource> Options(RedisTokenBucketLimiterSettings<TResource> settings, int nodes)
    {
        ConcurrentDictionary<BucketPlan, IReadOnlyList<RateLimit>> shares = new();
        var options = new KeyedTokenBucketLimiterOptions<TResource>
        {
            Name = settings.Name,
            KeySelector = keySelector,
            LimitsFor = resource => shares.GetOrAdd(planOf(resource), plan => [.. plan.Limits.Select(limit => Share(limit, nodes))]),
            Capacity = settings.Capacity,
        };
        foreach (RateLimit limit in settings.Plan.Limits)
        {
            options.Limits.Add(Share(limit, nodes));
        }

        return options;
    }

    private static RateLimit Share(RateLimit limit, int nodes)
    {
        int burst = limit.Burst ?? (int)Math.Max(1, Math.Ceiling(limit.Permits));
        return new RateLimit(Math.Max(limit.Permits / nodes, limit.Period / LongestPeriodOfAPermit), limit.Period, Math.Max(1, burst / nodes));
    }
}
