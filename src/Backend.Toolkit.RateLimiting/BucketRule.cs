namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// The arithmetic of one token bucket. Time (ticks of 100 ns since the start) becomes <b>token units</b>, a whole number of which is one token. What a bucket has
/// ever been given at an instant is computed from the instant itself, in one multiplication: nothing accumulates, the rate is exact over 200 years.
/// The state of a bucket is one word, the theoretical arrival time of GCRA in units: what is missing from a full bucket is <c>word - Given(now)</c>.
/// Where the rate is less than 32 tokens per so many ticks, the units are exact parts (7 000 000/s: 10 a token, 7 a tick); else an instant of refill is
/// true to one unit: 6 ns, or at most 2^-29 token where the burst is near 2^31.
/// Source: ITU-T I.371, the virtual scheduling form of the generic cell rate algorithm.
/// </summary>
internal sealed class BucketRule : LimitRule
{
    /// <summary>About 200 years: the last instant at which a bucket is refilled.</summary>
    public const long LastInstant = (1L << 56) - 1;

    /// <summary>Two buckets' worth of debt below a full one fit beside <see cref="LastInstant"/> × 32 into a word.</summary>
    private const long LargestBurstUnits = 1L << 60;

    /// <summary>Debt ends here: 100 years.</summary>
    private const long MostDebt = 36_500 * TimeSpan.TicksPerDay;

    private const int UnitsPerTickBelow = 32;
    private const int FractionBits = 59;

    /// <summary>Units per tick × 2^59, rounded up: at instants at which the true value is whole, so is ours.</summary>
    private readonly ulong _gain;

    private readonly double _ticksPerUnit;

    public BucketRule(RateLimit limit)
    {
        Burst = limit.EffectiveBurst;
        (UInt128 tokens, UInt128 ticks) = Reduce((decimal)limit.Permits, (UInt128)limit.Period.Ticks);
        UInt128 largest = (UInt128)(LargestBurstUnits / Burst);
        UInt128 units = tokens < UnitsPerTickBelow && ticks <= largest
            ? ticks
            : UInt128.Min(largest, ((UnitsPerTickBelow - 1) * ticks) / tokens);
        UnitsPerToken = (long)units;
        BurstUnits = Burst * UnitsPerToken;
        _gain = Fraction(units * tokens, ticks);
        _ticksPerUnit = (double)(1UL << FractionBits) / _gain;
    }

    public long Burst { get; }

    public override long Most => Burst;

    public long UnitsPerToken { get; }

    public long BurstUnits { get; }

    public override bool TryCharge(long word, long instant, long permits, out long after)
    {
        long given = Given(instant);
        after = Math.Max(word, given) + permits * UnitsPerToken;
        return after - given <= BurstUnits && permits <= Burst;
    }

    public override long Charge(long word, long instant, long permits) =>
        (long)Int128.Min(Math.Max(word, Given(instant)) + (Int128)permits * UnitsPerToken, Given(instant) + Given(MostDebt));

    public override long Refund(long word, long instant, long permits, in PastCharge charge)
    {
        // Had nobody come since, this much would still be missing, and with others at least as much; except that charges before this one may have been taken back.
        Int128 before = Int128.Max(0, charge.After - (Int128)charge.Permits * UnitsPerToken - Given(charge.Instant));
        Int128 missing = charge.After - Int128.Min(before, (Int128)charge.RefundedSince * UnitsPerToken) - Given(instant);
        long units = (long)Int128.Min((Int128)permits * UnitsPerToken, missing);
        return units > 0 ? word - units : word;
    }

    public override bool IsDrained(long word, long instant) => word <= Given(instant);

    /// <remarks>Debt that outlasts the clock: later than any instant, but a slot that is being moved says <see cref="LimitRule.Never"/>.</remarks>
    public override long DrainedAt(long word, long instant) => Math.Min(InstantOf(word), Never - 1);

    public override long AdmitsAt(long word, long instant, long permits) =>
        permits > Burst ? Never : Math.Max(instant, InstantOf(Math.Max(word, Given(instant)) - BurstUnits + permits * UnitsPerToken));

    public override long AdmitsAt(long word, long instant, long permits, long ahead)
    {
        Int128 units = Math.Max(word, Given(instant)) - BurstUnits + (permits + (Int128)ahead) * UnitsPerToken;
        return permits > Burst || units > long.MaxValue ? Never : Math.Max(instant, InstantOf((long)units));
    }

    public override long Remaining(long word, long instant) =>
        Math.Max(0, (BurstUnits - Math.Max(0, word - Given(instant))) / UnitsPerToken);

    public override long Used(long word, long instant) => Tokens(Math.Max(0, word - Given(instant)));

    public override long CarryOver(LimitRule from, long word, long instant) => from is BucketRule bucket
        ? (long)Int128.Min(Given(instant) + Scaled(Math.Max(0, word - bucket.Given(instant)), bucket.UnitsPerToken), Given(instant) + Given(MostDebt))
        : base.CarryOver(from, word, instant);

    /// <summary>The units given from the start to the instant.</summary>
    public long Given(long instant) => (long)Math.BigMul((ulong)instant << (64 - FractionBits), _gain, out _);

    /// <summary>The first instant at which that many units have been given; <see cref="LimitRule.Never"/>: after the last.</summary>
    public long InstantOf(long units)
    {
        if (units <= 0)
        {
            return 0;
        }

        if (_ticksPerUnit > 4)
        {
            UInt128 instant = (((UInt128)(ulong)units << FractionBits) + _gain - 1) / _gain;
            return instant > (UInt128)LastInstant ? Never : (long)instant;
        }

        // A division of 128 bits costs more than a whole admission: guess, mend the guess by what it misses, and step to the tick.
        long guess = (long)Math.Min(units * _ticksPerUnit, LastInstant);
        guess = Math.Clamp(guess + (long)((units - Given(guess)) * _ticksPerUnit), 0, LastInstant);
        while (guess <= LastInstant && Given(guess) < units)
        {
            guess++;
        }

        while (guess > 0 && Given(guess - 1) >= units)
        {
            guess--;
        }

        return guess > LastInstant ? Never : guess;
    }

    private long Tokens(long units) => (units / UnitsPerToken) + (units % UnitsPerToken > 0 ? 1 : 0);

    /// <summary>Units of another size in units of ours, rounded up.</summary>
    private Int128 Scaled(long units, long unitsPerToken) => (((Int128)units * UnitsPerToken) + unitsPerToken - 1) / unitsPerToken;

    /// <summary>permits ÷ period as whole numbers without a common divisor.</summary>
    private static (UInt128 Tokens, UInt128 Ticks) Reduce(decimal permits, UInt128 ticks)
    {
        for (; permits != decimal.Truncate(permits); permits *= 10)
        {
            ticks *= 10;
        }

        UInt128 tokens = (UInt128)permits;
        (UInt128 a, UInt128 b) = (tokens, ticks);
        while (b != 0)
        {
            (a, b) = (b, a % b);
        }

        return (tokens / a, ticks / a);
    }

    private static ulong Fraction(UInt128 numerator, UInt128 denominator)
    {
        (UInt128 quotient, UInt128 rest) = UInt128.DivRem(numerator, denominator);
        for (int bit = 0; bit < FractionBits; bit++)
        {
            rest <<= 1;
            quotient <<= 1;
            if (rest >= denominator)
            {
                rest -= denominator;
                quotient++;
            }
        }

        return (ulong)(rest > 0 ? quotient + 1 : quotient);
    }
}
