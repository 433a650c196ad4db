using System.Numerics;

namespace Backend.Toolkit.RateLimiting.Redis.Tests;

/// <summary>A token bucket in fractions that nothing rounds: what is missing, in tokens × denominator.</summary>
internal sealed class ExactBucket
{
    private readonly BigInteger _burst;
    private readonly BigInteger _perToken;
    private readonly BigInteger _perMicrosecond;
    private BigInteger _missing;
    private long _at;

    public ExactBucket(RateLimit limit)
    {
        decimal permits = (decimal)limit.Permits;
        BigInteger scale = 1;
        while (permits * (decimal)scale != decimal.Truncate(permits * (decimal)scale))
        {
            scale *= 10;
        }

        _perToken = limit.Period.Ticks * scale;
        _perMicrosecond = (BigInteger)(permits * (decimal)scale) * TimeSpan.TicksPerMicrosecond;
        _burst = (limit.Burst ?? (int)Math.Ceiling(limit.Permits)) * _perToken;
    }

    /// <summary>Whether the permits fit; none: whether one does.</summary>
    public bool Fits(long now, int permits) => Missing(now) + (Math.Max(1, permits) * _perToken) <= _burst;

    public void Charge(long now, int permits) => (_missing, _at) = (Missing(now) + (permits * _perToken), now);

    public long Remaining(long now) => (long)((_burst - Missing(now)) / _perToken);

    private BigInteger Missing(long now) => BigInteger.Max(0, _missing - ((now - _at) * _perMicrosecond));
}
