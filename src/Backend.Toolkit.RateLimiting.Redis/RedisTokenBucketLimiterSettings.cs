namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>The options as they were when the limiter took them, and what it knows of the keys under their prefix.</summary>
internal sealed record RedisTokenBucketLimiterSettings<TResource>(
    string Name,
    BucketPlan Plan,
    Func<TResource, RateLimitKey> KeySelector,
    Func<TResource, IReadOnlyList<RateLimit>?>? LimitsFor,
    string KeyPrefix,
    int LeaseSize,
    Func<int>? Nodes,
    TimeSpan StoreTimeout,
    bool LocalFallback,
    bool FailOpen,
    int Capacity,
    bool IsShadow,
    KeyStates States);
