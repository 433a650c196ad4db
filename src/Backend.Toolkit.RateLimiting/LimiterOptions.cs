using System.Threading.RateLimiting;

namespace Backend.Toolkit.RateLimiting;

/// <summary>What all limiters have in common.</summary>
public abstract class LimiterOptions : IValidOptions
{
    /// <summary>The label on metrics and in logs. Set by <c>AddTokenBucketLimiter</c> and <c>AddSlidingWindowLimiter</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>One to four limits that must all admit a request; refused by one, it is charged under none. No default.</summary>
    public IList<RateLimit> Limits { get; } = [];

    /// <summary>The most permits that may wait at once (keyed: for each key). 0 to 1 000 000; default 0: nobody waits.</summary>
    public int QueueLimit { get; set; }

    /// <summary>
    /// Who of those waiting is next. Oldest first: nobody overtakes, and who finds the queue full is refused. Newest first: newcomers go before, and the oldest are refused
    /// to make room. Default <see cref="QueueProcessingOrder.OldestFirst"/>.
    /// </summary>
    public QueueProcessingOrder QueueProcessingOrder { get; set; } = QueueProcessingOrder.OldestFirst;

    /// <summary>
    /// What is left of the caller's deadline, asked before a wait: one that would last as long is refused at once. Null: no deadline; zero or less: none left. When it throws,
    /// that is logged and there is none. Default null.
    /// </summary>
    public Func<TimeSpan?>? TimeLeft { get; set; }

    /// <summary>Shadow mode: counts and charges as ever, but admits what it would refuse (<see cref="RateLimitDecision.IsShadowRefusal"/>), charging nothing for it. Default false.</summary>
    public bool Shadow { get; set; }

    internal abstract LimitKind Kind { get; }

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public virtual IEnumerable<string> Problems()
    {
        if (Limits.Count is < 1 or > Plan.MostLimits)
        {
            yield return this.Problem(nameof(Limits), "1 to 4 limits", Limits.Count);
        }

        foreach (RateLimit? limit in Limits)
        {
            string? problem = limit is null ? "other than null." : limit.Problem(Kind);
            if (problem is not null)
            {
                yield return ValidOptions.Invariant($"{this.Subject()}: {nameof(Limits)} must be limits {problem}");
            }
        }

        if (QueueLimit is < 0 or > 1_000_000)
        {
            yield return this.Problem(nameof(QueueLimit), "between 0 and 1000000", QueueLimit);
        }

        if (!Enum.IsDefined(QueueProcessingOrder))
        {
            yield return this.Problem(nameof(QueueProcessingOrder), "OldestFirst or NewestFirst", QueueProcessingOrder);
        }
    }

    /// <summary>What is wrong with the size of a table of keys.</summary>
    internal IEnumerable<string> TableProblems(int capacity, WhenFull whenFull, object? keySelector)
    {
        if (keySelector is null)
        {
            yield return this.Problem("KeySelector", "set", "null");
        }

        if (!Enum.IsDefined(whenFull))
        {
            yield return this.Problem("WhenFull", "EvictClosestToDrained, Deny or SharedOverflow", whenFull);
        }

        if (capacity is < 64 or > 67_108_864)
        {
            yield return this.Problem("Capacity", "between 64 and 67108864", capacity);
        }
        else if (Kind == LimitKind.Log && Limits.All(limit => limit?.Problem(Kind) is null)
            && Limits.Sum(limit => limit.Permits + 1) * capacity * 1.0625 > Array.MaxLength / 2)
        {
            yield return this.Problem("Capacity", "so small that the logs, 4 bytes for each permit of each key, stay below 4 GB", capacity);
        }
    }
}
