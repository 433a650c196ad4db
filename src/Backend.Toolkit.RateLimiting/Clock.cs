namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// Monotonic time in ticks of 100 ns since the clock was made. <see cref="Coarse"/> on <see cref="TimeProvider.System"/> is the precise instant that was
/// read when <see cref="Environment.TickCount64"/> last changed: at most one tick stale (1 to 16 ms), never ahead, a quarter of the price.
/// </summary>
internal sealed class Clock
{
    /// <summary>The largest step of <see cref="Environment.TickCount64"/> on a supported system is 15.6 ms; twice that is never due by mistake.</summary>
    private const long StalenessTicks = 32 * TimeSpan.TicksPerMillisecond;

    private readonly TimeProvider _provider;
    private readonly bool _isSystem;
    private readonly long _frequency;
    private readonly long _start;

    public Clock(TimeProvider provider)
    {
        _provider = provider;
        _isSystem = ReferenceEquals(provider, TimeProvider.System);
        _frequency = provider.TimestampFrequency;
        _start = _isSystem ? Published.Start : provider.GetTimestamp();
    }

    /// <summary>How long after an instant <see cref="Coarse"/> may still be before it; zero when the coarse clock is the precise one.</summary>
    public long Staleness => _isSystem ? StalenessTicks : 0;

    /// <summary>Never ahead of <see cref="Precise"/>, never behind an earlier reading on the same thread.</summary>
    public long Coarse
    {
        get
        {
            if (!_isSystem)
            {
                return Precise;
            }

            long tick = Environment.TickCount64;
            return tick == Volatile.Read(ref Published.Tick) ? Volatile.Read(ref Published.Instant) : Publish(tick);
        }
    }

    public long Precise => Ticks(_provider.GetTimestamp() - _start);

    /// <summary>Saturates at about 200 years; a timestamp from before the start counts as the start.</summary>
    private long Ticks(long units)
    {
        if (units <= 0)
        {
            return 0;
        }

        if (_frequency == TimeSpan.TicksPerSecond)
        {
            return Math.Min(units, BucketRule.LastInstant);
        }

        return _frequency == 100 * TimeSpan.TicksPerSecond
            ? Math.Min(units / 100, BucketRule.LastInstant)
            : (long)UInt128.Min((UInt128)units * (UInt128)TimeSpan.TicksPerSecond / (UInt128)_frequency, (UInt128)BucketRule.LastInstant);
    }

    /// <summary>
    /// The instant goes up before the tick does and never down, so whoever sees the tick sees an instant at least as new. A thread that is held up
    /// between the two writes an old tick: the next reader only publishes again.
    /// </summary>
    private long Publish(long tick)
    {
        long now = Precise;
        long seen = Volatile.Read(ref Published.Instant);
        while (seen < now)
        {
            long before = Interlocked.CompareExchange(ref Published.Instant, now, seen);
            if (before == seen)
            {
                break;
            }

            seen = before;
        }

        Volatile.Write(ref Published.Tick, tick);
        return Math.Max(now, seen);
    }

    /// <summary>One pair for the process: written a thousand times a second at most, so it stays in every core's cache.</summary>
    private static class Published
    {
        public static readonly long Start = TimeProvider.System.GetTimestamp();
        public static long Tick = -1;
        public static long Instant;
    }
}
