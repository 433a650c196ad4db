using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.CircuitBreakers;

// What happens outside the lock after a change of state: the delegate for the break, log, metrics, event.
public sealed partial class CircuitBreaker
{
    /// <summary>Under the lock, before the change.</summary>
    private void Record(Outage outage, CircuitState current, CallCounts counts)
    {
        CircuitState previous = _window is not null ? CircuitState.Closed : outage.State;
        if (previous != current)
        {
            outage.Changes.Enqueue(new Change(previous, current, counts));
        }
    }

    /// <summary>Outside the lock, after it: asks the delegate for the break, then tells of the changes, in order, one thread at a time.</summary>
    private void Announce()
    {
        if (_outage is not { } outage)
        {
            return;
        }

        AskForBreak(outage);
        lock (_gate)
        {
            if (outage.IsAnnouncing)
            {
                return;
            }

            outage.IsAnnouncing = true;
        }

        while (true)
        {
            Change change;
            TimeSpan duration;
            lock (_gate)
            {
                if (!outage.Changes.TryDequeue(out change))
                {
                    outage.IsAnnouncing = false;
                    if (_window is not null && _outage == outage)
                    {
                        // A healthy circuit keeps nothing of its last outage.
                        _outage = null;
                    }

                    return;
                }

                duration = outage.Break;
            }

            Announce(change, duration);
        }
    }

    private void AskForBreak(Outage outage)
    {
        CircuitSettings settings = _scope.Settings;
        long opening;
        int openings;
        lock (_gate)
        {
            if (!outage.AwaitsBreak || settings.BreakDurationFor is null)
            {
                return;
            }

            outage.AwaitsBreak = false;
            opening = outage.Opening;
            openings = outage.Openings;
        }

        TimeSpan duration;
        try
        {
            duration = settings.BreakDurationFor(openings);
        }
        catch (Exception exception)
        {
            LogQuietly(static (logger, name, exception, _) => Log.BadBreakDuration(logger, exception, name, null), exception);
            return;
        }

        if (duration <= TimeSpan.Zero || duration > CircuitBreakerOptions.LongestDuration)
        {
            LogQuietly(static (logger, name, _, duration) => Log.BadBreakDuration(logger, null, name, duration), null, duration);
            return;
        }

        lock (_gate)
        {
            if (_outage == outage && outage.Opening == opening && outage.State == CircuitState.Open)
            {
                outage.Break = duration;
                Volatile.Write(ref outage.RejectUntil, outage.OpenedAt + _scope.Clock.ToUnits(duration));
            }
        }
    }

    /// <summary>Whatever a listener, a logger or a handler throws must not reach the call that happened to move the state.</summary>
    private void Announce(in Change change, TimeSpan duration)
    {
        try
        {
            Telemetry.Changed(Name, change.Current);
            if (_scope.Logger is { } logger && change.Current != CircuitState.HalfOpen && logger.IsEnabled(LogLevel.Warning))
            {
                Log.Changed(logger, _scope.Describe?.Invoke(this) ?? Name, change, duration);
            }
        }
        catch (Exception exception)
        {
            LogQuietly(static (logger, name, exception, _) => Log.HandlerThrew(logger, exception, name), exception);
        }

        if (StateChanged is null)
        {
            return;
        }

        var arguments = new CircuitStateChangedEventArgs(Name, change.Previous, change.Current);
        foreach (EventHandler<CircuitStateChangedEventArgs> handler in Delegate.EnumerateInvocationList(StateChanged))
        {
            try
            {
                handler(this, arguments);
            }
            catch (Exception exception)
            {
                LogQuietly(static (logger, name, exception, _) => Log.HandlerThrew(logger, exception, name), exception);
            }
        }
    }

    private void LogQuietly(Action<ILogger, string, Exception?, TimeSpan?> log, Exception? exception, TimeSpan? duration = null)
    {
        try
        {
            if (_scope.Logger is { } logger)
            {
                log(logger, Name, exception, duration);
            }
        }
        catch (Exception)
        {
            // The logger itself is broken; there is nobody left to tell.
        }
    }
}
