namespace Backend.Toolkit.CircuitBreakers;

/// <summary>One circuit of a group at one moment.</summary>
/// <typeparam name="TKey">The key of a circuit.</typeparam>
/// <param name="Key">The key.</param>
/// <param name="State">The state.</param>
/// <param name="Successes">Calls in the window that succeeded; 0 unless closed.</param>
/// <param name="Failures">Calls in the window that failed; 0 unless closed.</param>
/// <param name="SlowCalls">Calls in the window, of either kind, that were slow; 0 unless closed.</param>
public readonly record struct CircuitGroupEntry<TKey>(TKey Key, CircuitState State, long Successes, long Failures, long SlowCalls)
    where TKey : notnull;
