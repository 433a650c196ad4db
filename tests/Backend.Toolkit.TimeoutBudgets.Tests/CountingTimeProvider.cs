using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.TimeoutBudgets.Tests;

/// <summary>A fake clock that counts how it is used, and whose timers may come early, as coarse ones do.</summary>
internal sealed class CountingTimeProvider : TimeProvider
{
    private int _reads;
    private int _timers;
    private int _armings;

    public FakeTimeProvider Fake { get; } = new();

    /// <summary>By how much every wait is cut short.</summary>
    public TimeSpan Early { get; init; }

    /// <summary>Whether the timers never come.</summary>
    public bool Stalled { get; init; }

    /// <summary>Whether the next setting of a timer throws.</summary>
    public bool FailNextArming { get; set; }

    public int Reads => _reads;

    public int Timers => _timers;

    /// <summary>How often a timer was set to a time.</summary>
    public int Armings => _armings;

    public bool TimerWasCreatedWithoutContext { get; private set; }

    public override long TimestampFrequency => Fake.TimestampFrequency;

    public override long GetTimestamp()
    {
        Interlocked.Increment(ref _reads);
        return Fake.GetTimestamp();
    }

    public override DateTimeOffset GetUtcNow() => Fake.GetUtcNow();

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        Interlocked.Increment(ref _timers);
        TimerWasCreatedWithoutContext = ExecutionContext.IsFlowSuppressed();
        return new CountingTimer(this, Fake.CreateTimer(callback, state, dueTime, period));
    }

    private sealed class CountingTimer(CountingTimeProvider owner, ITimer timer) : ITimer
    {
        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            if (owner.FailNextArming)
            {
                owner.FailNextArming = false;
                throw new InvalidOperationException("This timer cannot be set now.");
            }

            Interlocked.Increment(ref owner._armings);
            return owner.Stalled || timer.Change(dueTime > owner.Early ? dueTime - owner.Early : TimeSpan.Zero, period);
        }

        public void Dispose() => timer.Dispose();

        public ValueTask DisposeAsync() => timer.DisposeAsync();
    }
}
