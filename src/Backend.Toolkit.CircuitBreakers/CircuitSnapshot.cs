namespace Backend.Toolkit.CircuitBreakers;

/// <summary>
/// The state of a circuit, small and serialisable, to carry an open circuit over a restart or to another node. Counts are not part of it.
/// </summary>
/// <param name="State">The state; a half-open circuit is restored as an open one whose break is over.</param>
/// <param name="RemainingBreak">What was left of the break; zero unless open.</param>
/// <param name="Openings">How many times in a row the circuit had opened; zero when closed.</param>
/// <param name="CapturedAt">The UTC instant of the capture, by the wall clock.</param>
public readonly record struct CircuitSnapshot(CircuitState State, TimeSpan RemainingBreak, int Openings, DateTimeOffset CapturedAt);
