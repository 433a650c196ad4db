using StackExchange.Redis;

namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>
/// What this node knows of one key: the permits that it holds (a lease), what the store last said, when it may ask again, and the call under way. Everything under <see cref="Gate"/>; instants
/// are ticks of this node's monotonic clock.
/// </summary>
internal sealed class KeyState(RedisKey storeKey)
{
    private double[]? _debts;
    private long _debtsAt;
    private long _askAt;
    private long _idleFrom;

    public Lock Gate { get; } = new();

    public RedisKey StoreKey => storeKey;

    public BucketPlan? Plan { get; private set; }

    public Lease? Lease { get; private set; }

    /// <summary>The one call for a lease that is under way; who finds it waits for it.</summary>
    public Task<BucketReply?>? Call { get; set; }

    /// <summary>Whether there is nothing left to remember.</summary>
    public bool IsIdle(long now)
    {
        lock (Gate)
        {
            return Call is null && now >= _idleFrom;
        }
    }

    /// <summary>Other limits hold: what is known under the old ones counts no more.</summary>
    public void Use(BucketPlan plan)
    {
        if (!ReferenceEquals(Plan, plan))
        {
            (Plan, Lease, _debts, _askAt) = (plan, null, null, 0);
        }
    }

    /// <summary>Admits from the lease, or refuses what the store would refuse even if nobody else had come since, and what comes before the node may ask again.</summary>
    /// <returns>False: only the store can say.</returns>
    public bool TryDecide(int permits, long now, out RateLimitDecision decision)
    {
        long held = Held(now), elapsed = (now - _debtsAt) / TimeSpan.TicksPerMicrosecond;
        if (held >= Math.Max(permits, 1))
        {
            Lease!.Permits -= permits;
            decision = new RateLimitDecision(true, permits, held - permits + Plan!.Remaining(_debts, elapsed), TimeSpan.Zero, TimeSpan.FromMicroseconds(Plan.DrainedAfter(_debts, elapsed)), Lease);
            return true;
        }

        // What was there when the node's share was used up may be asked for: a request that was too large for it does not keep smaller ones from it.
        long pace = _debts is null || Plan!.Remaining(_debts, 0) >= Math.Max(permits, 1) ? 0 : _askAt - now;
        long wait = _debts is null ? 0 : Math.Max(pace, Plan!.AdmitsAfter(_debts, elapsed, Math.Max(permits, 1)) * TimeSpan.TicksPerMicrosecond);
        decision = wait > 0
            ? new RateLimitDecision(false, permits, held + Plan!.Remaining(_debts, elapsed), new TimeSpan(wait), TimeSpan.FromMicroseconds(Plan.DrainedAfter(_debts, elapsed)))
            : default;
        return wait > 0;
    }

    /// <summary>The permits that this node may still spend.</summary>
    public long Held(long now) => Lease is { } lease && now < lease.ExpiresAt ? lease.Permits : 0;

    /// <summary>What the store said.</summary>
    public void Learn(BucketReply reply, long now)
    {
        (_debts, _debtsAt) = (reply.Debts, now);
        _idleFrom = Math.Max(_idleFrom, now + (reply.Plan.DrainedAfter(_debts, 0) * TimeSpan.TicksPerMicrosecond));
    }

    /// <summary>Permits of the store beyond those of the call that asked for them. A lease that has run out is another one's: nothing is given back to it.</summary>
    public void Extend(long permits, int size, long now, TimeSpan life)
    {
        if (Lease is null || now >= Lease.ExpiresAt)
        {
            Lease = new Lease(this);
        }

        Lease.Size = size;
        Lease.Permits = Math.Min(size, Lease.Permits + permits);
        Lease.ExpiresAt = now + life.Ticks;
        _idleFrom = Math.Max(_idleFrom, Lease.ExpiresAt);
    }

    /// <summary>This node's share is used up until then.</summary>
    public void AskAt(long instant)
    {
        _askAt = instant;
        _idleFrom = Math.Max(_idleFrom, instant);
    }

    /// <summary>Permits were given back: what was refused may be admitted.</summary>
    public void ForgetRefusals()
    {
        lock (Gate)
        {
            (_debts, _askAt) = (Plan is null ? null : new double[Plan.Limits.Count], 0);
        }
    }
}
