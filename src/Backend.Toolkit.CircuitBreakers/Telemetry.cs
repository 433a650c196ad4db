using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;

namespace Backend.Toolkit.CircuitBreakers;

/// <summary>The meter <c>Backend.Toolkit.CircuitBreakers</c>. Labels: the name of the circuit or group, never a key.</summary>
internal static class Telemetry
{
    private static readonly Meter Meter = new("Backend.Toolkit.CircuitBreakers");

    private static readonly Counter<long> RejectedCalls = Meter.CreateCounter<long>(
        "backend.toolkit.circuit_breaker.rejected", "{call}", "Calls rejected, or that shadow mode would have rejected.");

    private static readonly Counter<long> Transitions = Meter.CreateCounter<long>(
        "backend.toolkit.circuit_breaker.transitions", "{transition}", "Changes of state, by the state entered.");

    private static readonly WeakMeasurements States = new(
        "backend.toolkit.circuit_breaker.state", "{state}", "0 closed, 1 open, 2 half-open, 3 isolated.");

    private static readonly WeakMeasurements GroupCircuits = new(
        "backend.toolkit.circuit_breaker.group.circuits", "{circuit}", "Circuits of a group, by state.");

    public static void Register(CircuitBreaker breaker) =>
        States.Owners.Add(breaker, () => [new((int)breaker.State, new KeyValuePair<string, object?>("name", breaker.Name))]);

    public static void RegisterGroup(object group, string name, Func<int[]> countByState) =>
        GroupCircuits.Owners.Add(group, () => countByState().Select((count, state) => new Measurement<int>(
            count, new KeyValuePair<string, object?>("name", name), new KeyValuePair<string, object?>("state", Text((CircuitState)state)))));

    public static void UnregisterGroup(object group) => GroupCircuits.Owners.Remove(group);

    public static void Rejected(string name, bool shadow)
    {
        if (RejectedCalls.Enabled)
        {
            try
            {
                RejectedCalls.Add(1, new("name", name), new("shadow", shadow));
            }
            catch (Exception)
            {
                // A listener that throws must not make TryEnter throw.
            }
        }
    }

    public static void Changed(string name, CircuitState state)
    {
        if (Transitions.Enabled)
        {
            Transitions.Add(1, new("name", name), new("state", Text(state)));
        }
    }

    private static string Text(CircuitState state) => state switch
    {
        CircuitState.Closed => "closed",
        CircuitState.Open => "open",
        CircuitState.HalfOpen => "half_open",
        _ => "isolated",
    };

    /// <summary>A gauge over owners that it does not keep alive.</summary>
    private sealed class WeakMeasurements
    {
        public WeakMeasurements(string instrument, string unit, string description) => Meter.CreateObservableGauge(
            instrument, () => Owners.SelectMany(static owner => owner.Value()), unit, description);

        public ConditionalWeakTable<object, Func<IEnumerable<Measurement<int>>>> Owners { get; } = [];
    }
}
