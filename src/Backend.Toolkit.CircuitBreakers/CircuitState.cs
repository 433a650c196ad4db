namespace Backend.Toolkit.CircuitBreakers;

/// <summary>The states of a circuit. The numbers are the values of the state gauge.</summary>
public enum CircuitState
{
    /// <summary>Calls pass and are counted.</summary>
    Closed = 0,

    /// <summary>Calls are rejected until the break is over.</summary>
    Open = 1,

    /// <summary>The break is over: a few probes decide.</summary>
    HalfOpen = 2,

    /// <summary>Held open by <see cref="CircuitBreaker.Isolate"/> until <see cref="CircuitBreaker.Reset"/>.</summary>
    Isolated = 3,
}
