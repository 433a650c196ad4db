namespace Backend.Toolkit.RateLimiting;

/// <summary>Options of a <see cref="TokenBucketLimiter"/>.</summary>
public class TokenBucketLimiterOptions : LimiterOptions
{
    internal sealed override LimitKind Kind => LimitKind.Bucket;
}
