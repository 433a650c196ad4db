namespace Backend.Toolkit.RetryPolicies;

/// <summary>
/// Monotonic time in units of its own. <see cref="TimeProvider.System"/> is read as <see cref="Environment.TickCount64"/>
/// (milliseconds, at most one tick stale, a quarter of the price of a precise read); any other provider by its timestamp.
/// </summary>
internal readonly struct Clock
{
    private readonly TimeProvider? _provider;
    private readonly long _unitsPerSecond;

    public Clock(TimeProvider provider)
    {
        _provider = ReferenceEquals(provider, TimeProvider.System) ? null : provider;
        _unitsPerSecond = _provider?.TimestampFrequency ?? 1000;
    }

    public long Now => _provider is null ? Environment.TickCount64 : _provider.GetTimestamp();

    /// <summary>Rounds up, so that a positive duration is never zero units.</summary>
    public long ToUnits(TimeSpan duration) =>
        (long)(((Int128)duration.Ticks * _unitsPerSecond + TimeSpan.TicksPerSecond - 1) / TimeSpan.TicksPerSecond);
}
