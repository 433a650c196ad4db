namespace Backend.Toolkit.CircuitBreakers;

/// <summary>
/// The right to make one call, given by <see cref="CircuitBreaker.TryEnter"/>. Call exactly one of <see cref="Success"/>,
/// <see cref="Failure"/> and <see cref="Release"/>, once; <c>ExecuteAsync</c> does so for you. A second call is a no-op for a probe of a
/// half-open circuit; for a call of a closed one it is misuse that may miscount by one call and never makes a counter negative. A result
/// that arrives after the circuit has opened since never changes the state. A default permit does nothing.
/// </summary>
public readonly struct CircuitPermit
{
    private readonly CircuitBreaker? _breaker;

    internal CircuitPermit(CircuitBreaker breaker, CallWindow? window, long stamp, int slot)
    {
        _breaker = breaker;
        Window = window;
        Stamp = stamp;
        Slot = slot;
    }

    /// <summary>The closed period that admitted the call; null: a probe, or a call that shadow mode let pass.</summary>
    internal CallWindow? Window { get; }

    /// <summary>Closed: when the call started, in clock units. Half-open: the sequence of the probe.</summary>
    internal long Stamp { get; }

    /// <summary>Closed: the cohort in which the call is in flight. Half-open: the slot of the probe. -1: none.</summary>
    internal int Slot { get; }

    /// <summary>The call succeeded.</summary>
    public void Success() => _breaker?.Report(this, CallOutcome.Success);

    /// <summary>The call failed.</summary>
    public void Failure() => _breaker?.Report(this, CallOutcome.Failure);

    /// <summary>The call says nothing about the dependency: it was cancelled, or never made.</summary>
    public void Release() => _breaker?.Report(this, CallOutcome.Neutral);
}

internal enum CallOutcome
{
    Success,
    Failure,
    Neutral,
}
