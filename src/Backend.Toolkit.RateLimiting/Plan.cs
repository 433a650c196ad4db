namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// The limits of a key, one to four, and how a slot is charged under all of them or none. Every slot tells by the number in its fingerprint which plan it is kept
/// under. A slot whose first word is <see cref="Frozen"/> belongs to the thread that froze it.
/// </summary>
internal abstract class Plan(IReadOnlyList<RateLimit> limits, byte id)
{
    public const int MostLimits = 4;

    /// <summary>The word of a slot that is being moved; no rule makes it.</summary>
    public const long Frozen = long.MinValue;

    public IReadOnlyList<RateLimit> Limits { get; } = limits;

    public byte Id { get; } = id;

    /// <summary>The most permits that are ever admitted at once.</summary>
    public abstract long Most { get; }

    /// <summary>Whether an admission, too, needs the precise clock.</summary>
    public bool IsPrecise { get; protected init; }

    /// <summary>How many numbers of the table's log a slot takes.</summary>
    public abstract int LogLength { get; }

    /// <summary>Charges the permits under every limit or under none; zero permits: only looks whether one could be had.</summary>
    public abstract Charge TryCharge(in Slot slot, long instant, int permits, out RateLimitDecision decision);

    /// <summary>What <see cref="TryCharge"/> says about a key that was never seen, without charging it.</summary>
    public abstract RateLimitDecision Unused(ulong key, long instant, int permits);

    /// <summary>Charges without asking: debt. False: the slot is lost.</summary>
    public abstract bool TryOwe(in Slot slot, long instant, long permits);

    /// <summary>Takes back permits that the decision charged; none when it was made under other limits. False: the slot is lost.</summary>
    public abstract bool TryRefund(in Slot slot, long instant, int permits, in RateLimitDecision decision);

    /// <summary>When the permits fit behind others that wait.</summary>
    public abstract long AdmitsAt(in Slot slot, long instant, int permits, long ahead);

    /// <summary>When the slot equals one never used, also in the past; <see cref="LimitRule.Never"/> while it is being moved.</summary>
    public abstract long DrainedAt(in Slot slot, long instant);

    /// <summary>Takes the slot for the caller alone: if it is drained, or <paramref name="evenIfLive"/>. Until it is renamed, others still find it and wait.</summary>
    public abstract bool TryFreeze(in Slot slot, long instant, bool evenIfLive, out Words held);

    /// <summary>Renames a frozen slot, writes the state of a key that was never seen with the permits charged, fitting or not, and gives it free.</summary>
    public abstract void Start(in Slot slot, ulong fingerprint, long instant, int permits, out RateLimitDecision decision);

    /// <summary>Renames a frozen slot, writes what a key held under another plan, and gives it free.</summary>
    public abstract void Start(in Slot slot, ulong fingerprint, long instant, Plan from, in Words held, ReadOnlySpan<uint> log);

    /// <summary>What a key used of one limit, in permits, rounded up.</summary>
    public abstract long Used(int limit, long instant, in Words held, ReadOnlySpan<uint> log);

    /// <summary>Which limit of another plan goes on as one of this: that of the same period; of those without, the first as the first, and so on. -1: none, it starts unused.</summary>
    protected int Predecessor(int limit, Plan from)
    {
        int same = WithPeriodOf(Limits[limit], from.Limits, limit);
        if (same >= 0)
        {
            return same;
        }

        int place = 0;
        for (int i = 0; i < limit; i++)
        {
            place += WithPeriodOf(Limits[i], from.Limits, i) < 0 ? 1 : 0;
        }

        for (int i = 0; i < from.Limits.Count; i++)
        {
            if (WithPeriodOf(from.Limits[i], Limits, i) < 0 && place-- == 0)
            {
                return i;
            }
        }

        return -1;
    }

    private static int WithPeriodOf(RateLimit limit, IReadOnlyList<RateLimit> limits, int first)
    {
        for (int i = 0; i < limits.Count; i++)
        {
            int index = (first + i) % limits.Count;
            if (limits[index].Period == limit.Period)
            {
                return index;
            }
        }

        return -1;
    }
}
