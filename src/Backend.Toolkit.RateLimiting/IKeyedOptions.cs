namespace Backend.Toolkit.RateLimiting;

/// <summary>What keyed limiters of both kinds have in common.</summary>
internal interface IKeyedOptions<TResource>
{
    public Func<TResource, RateLimitKey>? KeySelector { get; set; }

    public Func<TResource, IReadOnlyList<RateLimit>?>? LimitsFor { get; }

    public int Capacity { get; }

    public WhenFull WhenFull { get; }
}
