namespace Backend.Toolkit.CircuitBreakers;

/// <summary>A change of state, waiting to be logged, measured and raised outside the lock.</summary>
internal readonly record struct Change(CircuitState Previous, CircuitState Current, CallCounts Counts);

/// <summary>
/// A circuit while it is not closed: the break, and the round of probes that follows it. Made when the circuit leaves the closed state, dropped
/// when it is closed again and the changes have been told. Guarded by the
/// circuit's lock; only <see cref="RejectUntil"/> is read without it.
/// </summary>
internal sealed class Outage
{
    /// <summary>Until then every call is rejected: the end of the break, for ever when isolated, the end of the round while all its probes are out.</summary>
    public long RejectUntil = long.MinValue;

    private (long Sequence, long Started)[] _probes = [];

    /// <summary>Never <see cref="CircuitState.Closed"/>; what it says while the circuit is closed does not matter.</summary>
    public CircuitState State { get; set; } = CircuitState.Open;

    /// <summary>Openings in a row since the circuit was last closed; what the break grows with.</summary>
    public int Openings { get; set; }

    /// <summary>Tells one opening from the next while a delegate is asked for its break.</summary>
    public long Opening { get; set; }

    public long OpenedAt { get; set; }

    /// <summary>The length of the break, for the log.</summary>
    public TimeSpan Break { get; set; }

    /// <summary>True until the delegate has been asked for the break of this opening.</summary>
    public bool AwaitsBreak { get; set; }

    public long RoundEnd { get; private set; }

    public int Successes { get; set; }

    /// <summary>Changes that nobody has been told of, and whether somebody is telling.</summary>
    public Queue<Change> Changes { get; } = new();

    public bool IsAnnouncing { get; set; }

    public bool HasProbes => Array.Exists(_probes, probe => probe.Sequence != 0);

    /// <summary>At the opening, so that the first probe of a round need not allocate.</summary>
    public void MakeSlots(CircuitSettings settings)
    {
        if (_probes.Length != settings.ProbeCount)
        {
            _probes = new (long, long)[settings.ProbeCount];
        }
    }

    public void StartRound(long now, CircuitSettings settings)
    {
        State = CircuitState.HalfOpen;
        Volatile.Write(ref RejectUntil, long.MinValue);
        RoundEnd = now + settings.LeaseUnits;
        Successes = 0;
        Array.Clear(_probes);
    }

    public bool TryAddProbe(long now, long sequence, out int slot)
    {
        slot = Array.FindIndex(_probes, probe => probe.Sequence == 0);
        if (slot < 0)
        {
            Volatile.Write(ref RejectUntil, RoundEnd);
            return false;
        }

        _probes[slot] = (sequence, now);
        return true;
    }

    /// <returns>False for a probe that has answered before, or that is from another round.</returns>
    public bool TryTakeProbe(int slot, long sequence, out long started)
    {
        started = 0;
        if (slot >= _probes.Length || _probes[slot].Sequence != sequence)
        {
            return false;
        }

        started = _probes[slot].Started;
        _probes[slot] = default;
        Volatile.Write(ref RejectUntil, long.MinValue);
        return true;
    }
}
