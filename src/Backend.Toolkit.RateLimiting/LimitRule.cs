namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// One limit whose state is one word; word 0 is a limit never used. A rule holds no state: each method takes a word, and gives the next one or says something
/// about it. Instants are ticks of 100 ns on the limiter's clock; permits are whole.
/// </summary>
internal abstract class LimitRule
{
    /// <summary>An instant that never comes.</summary>
    public const long Never = long.MaxValue;

    /// <summary>The most permits at once.</summary>
    public abstract long Most { get; }

    /// <summary>Charges the permits when they fit.</summary>
    public abstract bool TryCharge(long word, long instant, long permits, out long after);

    /// <summary>Charges without asking: debt.</summary>
    public abstract long Charge(long word, long instant, long permits);

    /// <summary>
    /// Takes back permits of a charge. Never leaves the limit more permissive than if they had not been charged: what has drained meanwhile is not given back
    /// once more.
    /// </summary>
    public abstract long Refund(long word, long instant, long permits, in PastCharge charge);

    /// <summary>Whether the word equals one never used.</summary>
    public abstract bool IsDrained(long word, long instant);

    /// <summary>The first instant at which the word equals one never used; it may be before <paramref name="instant"/>.</summary>
    public abstract long DrainedAt(long word, long instant);

    /// <summary>The first instant, not before <paramref name="instant"/>, at which the permits fit; <see cref="Never"/> when they are more than <see cref="Most"/>.</summary>
    public abstract long AdmitsAt(long word, long instant, long permits);

    /// <summary>When the permits fit behind others that wait: exact for a bucket, else no later than in truth.</summary>
    public abstract long AdmitsAt(long word, long instant, long permits, long ahead);

    /// <summary>How many permits fit; not less than zero.</summary>
    public abstract long Remaining(long word, long instant);

    /// <summary>How many permits are missing from a limit never used, rounded up; more than <see cref="Most"/> in debt.</summary>
    public abstract long Used(long word, long instant);

    /// <summary>The word with which this rule goes on where another one was in force: what was used stays used.</summary>
    public virtual long CarryOver(LimitRule from, long word, long instant) => Charge(0, instant, from.Used(word, instant));
}
