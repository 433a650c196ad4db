namespace Backend.Toolkit.CircuitBreakers;

/// <summary>
/// Monotonic time in units of its own. <see cref="TimeProvider.System"/> is read as <see cref="Environment.TickCount64"/>
/// (milliseconds, at most one tick stale, a quarter of the price of a precise read); any other provider by its timestamp.
/// </summary>
internal readonly struct Clock
{
    /// <summary>The largest step of <see cref="Environment.TickCount64"/> on a supported system: 15.6 ms on Windows, 4 ms on most Linux.</summary>
    private const int CoarseTickMilliseconds = 16;

    private readonly TimeProvider? _provider;
    private readonly long _unitsPerSecond;

    public Clock(TimeProvider provider)
    {
        _provider = ReferenceEquals(provider, TimeProvider.System) ? null : provider;
        _unitsPerSecond = _provider?.TimestampFrequency ?? 1000;
    }

    public long Now => _provider is null ? Environment.TickCount64 : _provider.GetTimestamp();

    /// <summary>How much later than true time <see cref="Now"/> may notice that an instant has passed.</summary>
    public TimeSpan Staleness => _provider is null ? TimeSpan.FromMilliseconds(CoarseTickMilliseconds) : TimeSpan.Zero;

    /// <summary>Rounds up, so that a positive duration is never zero units.</summary>
    public long ToUnits(TimeSpan duration) =>
        (long)(((Int128)duration.Ticks * _unitsPerSecond + TimeSpan.TicksPerSecond - 1) / TimeSpan.TicksPerSecond);

    /// <summary>Rounds up, so that waiting as long is enough.</summary>
    public TimeSpan ToTimeSpan(long units) => new((long)(((Int128)units * TimeSpan.TicksPerSecond + _unitsPerSecond - 1) / _unitsPerSecond));
}
