using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>
/// Whether the store is asked. After three failures in a row it is skipped, but for one call a second, until one of them succeeds. Lock-free: the instant until which it is skipped is one
/// word, 0 while it is asked.
/// </summary>
internal sealed class StoreHealth(string name, ILogger? logger)
{
    private const int FailuresInARow = 3;
    private const long ProbeInterval = TimeSpan.TicksPerSecond;

    private int _failures;
    private long _skippedUntil;

    public bool IsSkipped => Volatile.Read(ref _skippedUntil) != 0;

    /// <summary>Whether this call goes to the store. While it is skipped that is one call in an interval: the probe.</summary>
    public bool MayAsk(long now)
    {
        long until = Volatile.Read(ref _skippedUntil);
        return until == 0 || (now >= until && Interlocked.CompareExchange(ref _skippedUntil, now + ProbeInterval, until) == until);
    }

    /// <summary>How long until the next probe.</summary>
    public TimeSpan ProbedAfter(long now) => new(Math.Max(0, Volatile.Read(ref _skippedUntil) - now));

    public void Answered()
    {
        Volatile.Write(ref _failures, 0);
        if (IsSkipped && Interlocked.Exchange(ref _skippedUntil, 0) != 0)
        {
            Telemetry.Transition(name, "up");
            if (logger is not null)
            {
                Log.StoreIsBack(logger, name);
            }
        }
    }

    public void Failed(long now, Exception exception)
    {
        if (Interlocked.Increment(ref _failures) >= FailuresInARow && Interlocked.CompareExchange(ref _skippedUntil, now + ProbeInterval, 0) == 0)
        {
            Telemetry.Transition(name, "down");
            if (logger is not null)
            {
                Log.StoreIsSkipped(logger, exception, name, FailuresInARow);
            }
        }
    }
}
