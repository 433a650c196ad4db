namespace Backend.Toolkit.RateLimiting;

/// <summary>So many permits per period: a token bucket with its burst, or a window. A limiter takes the values once: change none that is in use.</summary>
public sealed record RateLimit
{
    /// <summary>Creates a limit to be filled in, as from configuration.</summary>
    public RateLimit()
    {
    }

    /// <summary>Creates a limit.</summary>
    /// <param name="permits">Permits per period.</param>
    /// <param name="period">The period, or the length of the window.</param>
    /// <param name="burst">Token bucket: the most permits at once; default <paramref name="permits"/>, rounded up.</param>
    public RateLimit(double permits, TimeSpan period, int? burst = null) => (Permits, Period, Burst) = (permits, period, burst);

    /// <summary>
    /// Permits per <see cref="Period"/>. Token bucket: also a fraction; more than 0, at most 300 000 000 a second, at least one in 3 650 days. Window: whole, 1 to
    /// 1 000 000 (exact: 10 000). Default 100.
    /// </summary>
    public double Permits { get; set; } = 100;

    /// <summary>The period, or the length of the window; 1 ms (window: 100 ms) to 3 650 days. Default 1 s.</summary>
    public TimeSpan Period { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>Token bucket: the most permits at once, the size of the bucket; 1 to 2 147 483 647, refilled in at most 36 500 days. Default null: <see cref="Permits"/>, rounded up. Window: none.</summary>
    public int? Burst { get; set; }

    internal long EffectiveBurst => Burst ?? Math.Max(1, (long)Math.Ceiling(Permits));

    /// <summary>What of this is not a limit for such a limiter, as the end of a sentence; null when it is one.</summary>
    internal string? Problem(LimitKind kind)
    {
        TimeSpan shortest = kind == LimitKind.Bucket ? TimeSpan.FromMilliseconds(1) : TimeSpan.FromMilliseconds(100);
        TimeSpan longest = TimeSpan.FromDays(3650);
        if (Period < shortest || Period > longest)
        {
            return ValidOptions.Invariant($"with a Period between {shortest} and {longest}, but one is {Period}.");
        }

        if (kind == LimitKind.Bucket)
        {
            return !(Permits >= Period / longest) || Permits > 300_000_000 * Period.TotalSeconds
                    ? ValidOptions.Invariant($"with Permits of at most 300000000 a second and at least 1 in {longest}, but one is {Permits} per {Period}.")
                : EffectiveBurst is < 1 or > int.MaxValue
                    ? ValidOptions.Invariant($"with a Burst (default: Permits, rounded up) between 1 and {int.MaxValue}, but one is {EffectiveBurst}.")
                : EffectiveBurst / Permits * Period.TotalDays > 36_500
                    ? ValidOptions.Invariant($"that fill their Burst in at most 36500 days, but one has {EffectiveBurst} at {Permits} per {Period}.")
                : null;
        }

        long most = kind == LimitKind.Log ? LogPlan.LargestLimit : EstimateRule.LargestLimit;
        return !(Permits >= 1 && Permits <= most && Permits == Math.Floor(Permits))
                ? ValidOptions.Invariant($"with whole Permits between 1 and {most} for this mode, but one is {Permits}.")
            : Burst is not null
                ? ValidOptions.Invariant($"without a Burst, which only a token bucket has, but one is {Burst}.")
            : null;
    }
}
