using System.Buffers.Binary;

namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>
/// The arithmetic of up to four buckets, the same here and in <see cref="BucketScript"/>, in whole numbers below 2^53. Time (microseconds of the store's clock) becomes <b>token units</b>: a whole
/// number of units is one token, and a whole number drains in each microsecond (7 000 000/s: 1 a token, 7 a microsecond; 1/day: 86 400 000 000 a token, 1 a microsecond), so the rate is exact over
/// years. Where no such unit leaves room for the burst, what drains is rounded to the strict side, by at most 2^-51 of the burst for each admission.
/// </summary>
internal sealed class BucketPlan
{
    private const long MostUnits = 1L << 51;

    private readonly Rule[] _rules;

    public BucketPlan(IReadOnlyList<RateLimit> limits)
    {
        Limits = [.. limits];

        // By period, so that the same limits in another order are the same.
        _rules = [.. Limits.OrderBy(limit => limit.Period).Select(limit => new Rule(limit))];
        Most = (int)_rules.Min(rule => rule.Burst);
        Packed = new byte[_rules.Length * 24];
        for (int i = 0; i < _rules.Length; i++)
        {
            Span<byte> packed = Packed.AsSpan(i * 24);
            BinaryPrimitives.WriteDoubleBigEndian(packed, _rules[i].UnitsPerToken);
            BinaryPrimitives.WriteDoubleBigEndian(packed[8..], _rules[i].UnitsPerMicrosecond);
            BinaryPrimitives.WriteDoubleBigEndian(packed[16..], _rules[i].BurstUnits);
        }
    }

    public IReadOnlyList<RateLimit> Limits { get; }

    /// <summary>The most permits at once.</summary>
    public int Most { get; }

    /// <summary>What the script is told of the limits.</summary>
    public byte[] Packed { get; }

    /// <summary>How many permits fit, so many microseconds after the debts were what they are.</summary>
    public long Remaining(ReadOnlySpan<double> debts, long elapsed)
    {
        double least = double.MaxValue;
        for (int i = 0; i < _rules.Length; i++)
        {
            least = Math.Min(least, _rules[i].Available(debts[i], elapsed));
        }

        return Math.Max(0, (long)least);
    }

    /// <summary>In how many microseconds all debts are gone.</summary>
    public long DrainedAfter(ReadOnlySpan<double> debts, long elapsed)
    {
        long after = 0;
        for (int i = 0; i < _rules.Length; i++)
        {
            after = Math.Max(after, _rules[i].AtMost(debts[i], 0));
        }

        return Math.Max(0, after - elapsed);
    }

    /// <summary>In how many microseconds, and not one earlier, so many permits fit if nobody else comes.</summary>
    public long AdmitsAfter(ReadOnlySpan<double> debts, long elapsed, int permits)
    {
        long after = 0;
        for (int i = 0; i < _rules.Length; i++)
        {
            after = Math.Max(after, _rules[i].AtMost(debts[i], _rules[i].BurstUnits - (permits * _rules[i].UnitsPerToken)));
        }

        return Math.Max(0, after - elapsed);
    }

    /// <summary>How long the limit that has the least left takes to give so many tokens.</summary>
    public TimeSpan TimeFor(double tokens, ReadOnlySpan<double> debts)
    {
        int scarce = 0;
        for (int i = 1; i < _rules.Length; i++)
        {
            scarce = _rules[i].Available(debts[i], 0) < _rules[scarce].Available(debts[scarce], 0) ? i : scarce;
        }

        return Time(_rules[scarce], tokens);
    }

    /// <summary>How long the slowest limit takes to give so many tokens.</summary>
    public TimeSpan LongestTimeFor(double tokens) => _rules.Max(rule => Time(rule, tokens));

    private static TimeSpan Time(Rule rule, double tokens) =>
        TimeSpan.FromMicroseconds(Math.Min(tokens * rule.UnitsPerToken / rule.UnitsPerMicrosecond, TimeSpan.FromDays(36_500).TotalMicroseconds));

    private readonly struct Rule
    {
        public Rule(RateLimit limit)
        {
            Burst = limit.Burst ?? Math.Max(1, (long)Math.Ceiling(limit.Permits));
            (UInt128 tokens, UInt128 microseconds) = Reduce((decimal)limit.Permits * TimeSpan.TicksPerMicrosecond, (UInt128)limit.Period.Ticks);
            bool isExact = microseconds <= (UInt128)(MostUnits / Burst) && tokens <= MostUnits;
            UnitsPerToken = isExact ? (double)microseconds : Math.Floor((double)MostUnits / Burst);
            UnitsPerMicrosecond = isExact ? (double)tokens : UnitsPerToken * ((double)tokens / (double)microseconds);
            BurstUnits = UnitsPerToken * Burst;
        }

        public long Burst { get; }

        public double UnitsPerToken { get; }

        public double UnitsPerMicrosecond { get; }

        public double BurstUnits { get; }

        public double Available(double debt, long elapsed) => Math.Floor((BurstUnits - DebtAfter(debt, elapsed)) / UnitsPerToken);

        /// <summary>The first microsecond at which no more than so many units are owed.</summary>
        public long AtMost(double debt, double units)
        {
            if (debt <= units)
            {
                return 0;
            }

            long after = (long)Math.Ceiling((debt - units) / UnitsPerMicrosecond);
            while (DebtAfter(debt, after) > units)
            {
                after++;
            }

            return after;
        }

        /// <summary>As the script has it.</summary>
        private double DebtAfter(double debt, long elapsed) => Math.Max(0, Math.Ceiling(debt - (elapsed * UnitsPerMicrosecond)));

        /// <summary>permits ÷ period as whole numbers without a common divisor.</summary>
        private static (UInt128 Tokens, UInt128 Time) Reduce(decimal permits, UInt128 time)
        {
            for (; permits != decimal.Truncate(permits); permits *= 10)
            {
                time *= 10;
            }

            UInt128 tokens = (UInt128)permits;
            (UInt128 a, UInt128 b) = (tokens, time);
            while (b != 0)
            {
                (a, b) = (b, a % b);
            }

            return (tokens / a, time / a);
        }
    }
}
