using System.Globalization;

namespace Backend.Toolkit.CircuitBreakers;

/// <summary>
/// The circuit rejected a call without running it. It never carries the exception of another call.
/// </summary>
public sealed class CircuitOpenException : Exception
{
    /// <summary>Creates the exception.</summary>
    /// <param name="name">The name of the circuit breaker; may be empty.</param>
    /// <param name="state">The state that rejected the call.</param>
    /// <param name="retryAfter">See <see cref="RetryAfter"/>.</param>
    public CircuitOpenException(string name, CircuitState state, TimeSpan retryAfter)
        : base(Describe(name, state, retryAfter))
    {
        Name = name;
        State = state;
        RetryAfter = retryAfter;
    }

    /// <summary>The name of the circuit breaker.</summary>
    public string Name { get; }

    /// <summary>The state that rejected the call: open, half-open with all probes out, or isolated.</summary>
    public CircuitState State { get; }

    /// <summary>
    /// The time after which a call may be admitted as a probe: what is left of the break. Zero when half-open (a probe is out and may
    /// answer at any moment); <see cref="Timeout.InfiniteTimeSpan"/> when isolated.
    /// </summary>
    public TimeSpan RetryAfter { get; }

    private static string Describe(string name, CircuitState state, TimeSpan retryAfter)
    {
        string circuit = name.Length > 0 ? $"Circuit '{name}'" : "The circuit";
        return state switch
        {
            CircuitState.Isolated => $"{circuit} is isolated; calls are rejected until it is reset.",
            CircuitState.HalfOpen => $"{circuit} is half-open and all its probes are out; the call was rejected.",
            _ => string.Create(CultureInfo.InvariantCulture, $"{circuit} is open; the call was rejected. Retry after {retryAfter}."),
        };
    }
}
