namespace Backend.Toolkit.RateLimiting;

/// <summary>Options of a <see cref="KeyedTokenBucketLimiter{TResource}"/>.</summary>
/// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
public sealed class KeyedTokenBucketLimiterOptions<TResource> : TokenBucketLimiterOptions, IKeyedOptions<TResource>
{
    /// <summary>By what is counted. When it throws, that is logged and the request counts as one without a key. Required; <c>AddTokenBucketLimiter</c> takes it as an argument.</summary>
    public Func<TResource, RateLimitKey>? KeySelector { get; set; }

    /// <summary>
    /// The limits of a key of its own, such as a tenant's plan; null: those in <see cref="LimiterOptions.Limits"/>. At most as many of them, and in exact mode no more permits altogether;
    /// at most 254 different lists. Others, or a delegate that throws, are logged, and <see cref="LimiterOptions.Limits"/> hold. Default null.
    /// </summary>
    public Func<TResource, IReadOnlyList<RateLimit>?>? LimitsFor { get; set; }

    /// <summary>For how many keys in use at once there is room, in slots of 17 bytes, 8 more for each limit after the first, 4 more for each permit of an exact window. 64 to 67 108 864; default 65 536.</summary>
    public int Capacity { get; set; } = 65_536;

    /// <summary>What happens to a new key when there is no room. Default <see cref="WhenFull.EvictClosestToDrained"/>.</summary>
    public WhenFull WhenFull { get; set; }

    /// <inheritdoc/>
    public override IEnumerable<string> Problems() => base.Problems().Concat(TableProblems(Capacity, WhenFull, KeySelector));
}
