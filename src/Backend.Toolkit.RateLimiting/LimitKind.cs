namespace Backend.Toolkit.RateLimiting;

/// <summary>By which rule a limiter counts.</summary>
internal enum LimitKind
{
    Bucket,
    Estimate,
    Log,
}
