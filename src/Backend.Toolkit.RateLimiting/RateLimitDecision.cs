namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// What a limiter said about one request: a value that costs no allocation. The numbers are those of the moment of the decision, worked out when they
/// are asked for.
/// </summary>
public struct RateLimitDecision
{
    private Words _words;
    private object? _source;
    private ulong _key;
    private long _instant;
    private long _refunded;
    private int _permits;
    private Flags _flags;

    /// <summary>From a plan of words, read when asked.</summary>
    internal RateLimitDecision(bool isAdmitted, int permits, WordPlan plan, ulong key, long instant, in Words words, long refunded = 0)
    {
        (_source, _key, _instant, _permits, _refunded) = (plan, key, instant, permits, refunded);
        _flags = isAdmitted ? Flags.Admitted | Flags.Words : Flags.Words;
        _words = words;
    }

    /// <summary>From a plan of one word, written where it is wanted: to build it elsewhere and copy it costs half as much again as the whole admission.</summary>
    internal static void Write(out RateLimitDecision decision, bool isAdmitted, int permits, WordPlan plan, ulong key, long instant, long word, long refunded)
    {
        decision = default;
        decision._words[0] = word;
        decision._source = plan;
        decision._key = key;
        decision._instant = instant;
        decision._refunded = refunded;
        decision._permits = permits;
        decision._flags = isAdmitted ? Flags.Admitted | Flags.Words : Flags.Words;
    }

    /// <summary>With its numbers.</summary>
    internal RateLimitDecision(bool isAdmitted, int permits, Plan plan, ulong key, long instant, long remaining, TimeSpan retryAfter, TimeSpan resetAfter)
        : this(isAdmitted, permits, remaining, retryAfter, resetAfter, plan) => (_key, _instant) = (key, instant);

    /// <summary>Another verdict on what was seen: refused all the same, or admitted only for show.</summary>
    internal RateLimitDecision(in RateLimitDecision decision, int permits, bool isShadow, TimeSpan retryAfter)
    {
        (_source, _key, _instant, _permits) = (decision.Source, decision.Key, decision.Instant, permits);
        _flags = isShadow ? Flags.Admitted | Flags.Shadow : Flags.None;
        (_words[0], _words[1], _words[2]) = (decision.Remaining, retryAfter.Ticks, decision.ResetAfter.Ticks);
    }

    /// <summary>Creates a decision with its numbers, as a limiter outside this package does.</summary>
    /// <param name="isAdmitted">Whether the request may go on.</param>
    /// <param name="permits">What was asked for.</param>
    /// <param name="remaining">How many permits could be had now.</param>
    /// <param name="retryAfter">When the same request would be admitted; zero when it was.</param>
    /// <param name="resetAfter">When the limiter is as if never used.</param>
    /// <param name="source">What the limiter needs to settle the charge.</param>
    /// <param name="isShadowRefusal">Refused, but admitted since the limiter is in shadow mode.</param>
    public RateLimitDecision(bool isAdmitted, int permits, long remaining, TimeSpan retryAfter, TimeSpan resetAfter, object? source = null, bool isShadowRefusal = false)
    {
        (_source, _permits) = (source, permits);
        _flags = isShadowRefusal ? Flags.Admitted | Flags.Shadow : isAdmitted ? Flags.Admitted : Flags.None;
        (_words[0], _words[1], _words[2]) = (remaining, retryAfter.Ticks, resetAfter.Ticks);
    }

    [Flags]
    private enum Flags
    {
        None = 0,
        Admitted = 1,
        Words = 2,
        Shadow = 4,
    }

    /// <summary>Whether the request may go on.</summary>
    public readonly bool IsAdmitted => (_flags & Flags.Admitted) != 0;

    /// <summary>Whether it may go on only because the limiter is in shadow mode. Then nothing was charged.</summary>
    public readonly bool IsShadowRefusal => (_flags & Flags.Shadow) != 0;

    /// <summary>What was asked for, and charged when admitted.</summary>
    public readonly int Permits => _permits;

    /// <summary>How many permits could be had now, after this decision; zero when there is debt.</summary>
    public readonly long Remaining => Plan is { } plan ? plan.Remaining(_words, Instant) : _words[0];

    /// <summary>
    /// Refused: after this time the same request would be admitted if nobody else came, and not one tick earlier (see the limiter for its clock);
    /// <see cref="Timeout.InfiniteTimeSpan"/>: never, it costs more than the limit. Admitted: zero.
    /// </summary>
    public readonly TimeSpan RetryAfter => Plan is not { } plan ? new TimeSpan(_words[1])
        : IsAdmitted ? TimeSpan.Zero
        : plan.AdmitsAt(_words, Instant, Permits) is var at && at == LimitRule.Never ? Timeout.InfiniteTimeSpan
        : new TimeSpan(at - Instant);

    /// <summary>After this time the limiter is as if never used, if nobody came.</summary>
    public readonly TimeSpan ResetAfter => Plan is not { } plan ? new TimeSpan(_words[2])
        : new TimeSpan(plan.DrainedAt(_words, Instant) - Instant);

    /// <summary>What the limiter gave to settle the charge; null for a limiter of this package that was never asked.</summary>
    public readonly object? Source => _source;

    /// <summary>Which key was charged, and when.</summary>
    internal readonly ulong Key => _key;

    internal readonly long Instant => _instant;

    /// <summary>How much the slot had ever been given back before the charge.</summary>
    internal readonly long Refunded => _refunded;

    /// <summary>The words right after the charge.</summary>
    internal readonly Words Words => _words;

    /// <summary>What was charged.</summary>
    internal readonly int Charged => IsAdmitted && !IsShadowRefusal ? Permits : 0;

    /// <summary>Refused, and due in so many ticks or less.</summary>
    internal readonly bool IsDueWithin(long ticks) => Plan is { } plan
        ? plan.Fits(_words, _instant + ticks, Math.Max(_permits, 1))
        : RetryAfter is var after && after.Ticks <= ticks && after != Timeout.InfiniteTimeSpan;

    private readonly WordPlan? Plan => (_flags & Flags.Words) != 0 ? (WordPlan)Source! : null;
}
