namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// The sliding window that two counters estimate: the count of the running fixed window, and that of the one before by the share of it that the
/// sliding window still covers, as if its permits had come evenly. Exact in whole numbers of 128 bits; one word: 22 bits number of the window, 21 bits each count.
/// Source: Cloudflare, "How we built rate limiting capable of scaling to millions of domains" (2017).
/// </summary>
internal sealed class EstimateRule(long limit, TimeSpan window) : LimitRule
{
    public const long LargestLimit = 1_000_000;

    private const int CountBits = 21;
    private const long LargestCount = (1L << CountBits) - 1;
    private const long NumberMask = (1L << 22) - 1;

    /// <summary>How many windows a word may be ahead of an instant: of a thread that was held up since it read its clock, or of a clock that went back.</summary>
    private const long MostAhead = 16;

    private readonly long _window = window.Ticks;

    public override long Most => limit;

    public override bool TryCharge(long word, long instant, long permits, out long after)
    {
        Counts counts = Read(word, instant);
        bool fits = permits <= limit && (permits == 0 || Fits(counts, permits));
        after = fits ? Word(counts.Number, counts.Before, counts.Now + permits) : word;
        return fits;
    }

    public override long Charge(long word, long instant, long permits)
    {
        Counts counts = Read(word, instant);
        return Word(counts.Number, counts.Before, Math.Min(counts.Now + permits, LargestCount));
    }

    public override long Refund(long word, long instant, long permits, in PastCharge charge)
    {
        // The word knows the window that the charge went to, also when that was ahead of the instant.
        Counts counts = Read(word, instant);
        return (counts.Number - (charge.After >> (2 * CountBits)) & NumberMask) switch
        {
            0 => Word(counts.Number, counts.Before, Less(counts.Now, permits)),
            1 => Word(counts.Number, Less(counts.Before, permits), counts.Now),
            _ => word,
        };
    }

    public override bool IsDrained(long word, long instant) => Read(word, instant) is { Before: 0, Now: 0 };

    public override long DrainedAt(long word, long instant)
    {
        long ahead = Ahead(word, instant / _window);
        long start = (instant / _window + (ahead <= MostAhead ? ahead : ahead - NumberMask - 1)) * _window;
        return (word & LargestCount) > 0 ? start + 2 * _window
            : (word >> CountBits & LargestCount) > 0 ? start + _window
            : 0;
    }

    public override long AdmitsAt(long word, long instant, long permits)
    {
        if (permits > limit)
        {
            return Never;
        }

        Counts counts = Read(word, instant);
        if (permits == 0 || Fits(counts, permits))
        {
            return instant;
        }

        long room = limit - counts.Now - permits;
        return room >= 0
            ? counts.Start + WhenItFits(counts.Before, room)
            : counts.Start + _window + WhenItFits(counts.Now, limit - permits);
    }

    public override long Remaining(long word, long instant)
    {
        Counts counts = Read(word, instant);
        return Math.Max(0, limit - counts.Now - Weighted(counts));
    }

    public override long AdmitsAt(long word, long instant, long permits, long ahead)
    {
        (long windows, long last) = Math.DivRem(permits + ahead - 1, limit);
        return permits > limit ? Never : Math.Max(AdmitsAt(word, instant, permits), AdmitsAt(word, instant, last + 1) + windows * _window);
    }

    public override long Used(long word, long instant)
    {
        Counts counts = Read(word, instant);
        return counts.Now + Weighted(counts);
    }

    public override long CarryOver(LimitRule from, long word, long instant) =>
        from is EstimateRule estimate && estimate._window == _window ? word : base.CarryOver(from, word, instant);

    /// <summary>How far into a window the count of the one before weighs no more than the room.</summary>
    private long WhenItFits(long before, long room) =>
        before <= room ? 0 : _window - (long)((UInt128)room * (UInt128)_window / (UInt128)before);

    /// <summary>What the window before weighs, rounded up.</summary>
    private long Weighted(Counts counts) => counts.Before == 0
        ? 0
        : (long)(((UInt128)counts.Before * (UInt128)(_window - counts.Elapsed) + (UInt128)_window - 1) / (UInt128)_window);

    /// <summary>A count that is full of debt says nothing about what it would be without the charge.</summary>
    private static long Less(long count, long permits) => count == LargestCount ? count : Math.Max(0, count - permits);

    private bool Fits(Counts counts, long permits)
    {
        long room = limit - counts.Now - permits;
        return room >= 0 && (UInt128)counts.Before * (UInt128)(_window - counts.Elapsed) <= (UInt128)room * (UInt128)_window;
    }

    /// <summary>How many windows the word is ahead of one, modulo 2^22.</summary>
    private static long Ahead(long word, long number) => (word >> (2 * CountBits)) - number & NumberMask;

    /// <summary>The word as it counts at the instant. One from a later window is read at that window's start.</summary>
    private Counts Read(long word, long instant)
    {
        long number = instant / _window;
        long elapsed = instant - number * _window;
        long now = word & LargestCount, before = word >> CountBits & LargestCount;
        return Ahead(word, number) switch
        {
            0 => new Counts(number, number * _window, elapsed, before, now),
            NumberMask => new Counts(number, number * _window, elapsed, now, 0),
            <= MostAhead and var ahead when word != 0 => new Counts(number + ahead, (number + ahead) * _window, 0, before, now),
            _ => new Counts(number, number * _window, elapsed, 0, 0),
        };
    }

    private static long Word(long number, long before, long now) => (number & NumberMask) << (2 * CountBits) | before << CountBits | now;

    private readonly record struct Counts(long Number, long Start, long Elapsed, long Before, long Now);
}
