namespace Backend.Toolkit.CircuitBreakers;

/// <summary>What <see cref="CircuitBreaker.StateChanged"/> tells.</summary>
/// <param name="name">The name of the circuit breaker.</param>
/// <param name="previous">The state that was left.</param>
/// <param name="current">The state that was entered.</param>
public sealed class CircuitStateChangedEventArgs(string name, CircuitState previous, CircuitState current) : EventArgs
{
    /// <summary>The name of the circuit breaker, or of its group.</summary>
    public string Name { get; } = name;

    /// <summary>The state that was left.</summary>
    public CircuitState Previous { get; } = previous;

    /// <summary>The state that was entered.</summary>
    public CircuitState Current { get; } = current;
}
