using System.Threading.RateLimiting;

namespace Backend.Toolkit.RateLimiting;

/// <summary>The options of a limiter as they were when it took them; capacity 0: without keys.</summary>
internal sealed record LimiterSettings(
    string Name,
    LimitKind Kind,
    IReadOnlyList<RateLimit> Limits,
    int Capacity,
    WhenFull WhenFull,
    int QueueLimit,
    bool IsNewestFirst,
    Func<TimeSpan?>? TimeLeft,
    bool IsShadow)
{
    public static LimiterSettings Of(LimiterOptions options, int capacity = 0, WhenFull whenFull = default)
    {
        options.ThrowIfInvalid();
        return new LimiterSettings(
            options.Name ?? "",
            options.Kind,
            [.. options.Limits],
            capacity,
            whenFull,
            options.QueueLimit,
            options.QueueProcessingOrder == QueueProcessingOrder.NewestFirst,
            options.TimeLeft,
            options.Shadow);
    }

    /// <summary>Whether the state of one fits the other as it is.</summary>
    public bool HasTableOf(LimiterSettings other) =>
        Kind == other.Kind && Capacity == other.Capacity && WhenFull == other.WhenFull && LimitsComparer.Instance.Equals(Limits, other.Limits);

    public KeyTable MakeTable(Lock[] locks, Clock clock) => new(Name, Capacity, WhenFull, Limits, (limits, id) => MakePlan(limits, id, clock), locks);

    private Plan? MakePlan(IReadOnlyList<RateLimit> limits, byte id, Clock clock) =>
        limits.Count == 0 || limits.Any(limit => limit is null || limit.Problem(Kind) is not null) ? null
        : Kind == LimitKind.Log ? new LogPlan(limits, id)
        : new WordPlan(limits, id, [.. limits.Select(limit => Kind == LimitKind.Bucket ? (LimitRule)new BucketRule(limit) : new EstimateRule((long)limit.Permits, limit.Period))], clock);
}
