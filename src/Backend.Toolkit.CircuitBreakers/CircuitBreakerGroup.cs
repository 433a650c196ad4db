using System.Collections.Concurrent;
using System.Globalization;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.CircuitBreakers;

/// <summary>
/// One circuit per key (host, tenant), at most <see cref="CircuitBreakerGroupOptions.Capacity"/> of them. A full group drops approximately the
/// least recently used circuit; one with a break or probes running, or with tracked calls in flight, goes only when a large sample is. A circuit that somebody still
/// holds keeps working after it was dropped, detached: the next <see cref="For"/> makes another. Thread-safe; no task, no timer.
/// How: a use marks the circuit with the number of circuits made so far; the smallest mark of a sample goes (as in Redis' approximated LRU).
/// Cost: one dictionary look-up per use, at most 300 bytes per key (350 with slow calls).
/// </summary>
/// <typeparam name="TKey">The key of a circuit.</typeparam>
public sealed class CircuitBreakerGroup<TKey> : IDisposable
    where TKey : notnull
{
    private const int SmallSample = 64;
    private const int LargeSample = 1024;

    private readonly ConcurrentDictionary<TKey, CircuitBreaker> _circuits = new();
    private readonly CircuitScope _scope;

    /// <summary>The circuits share a few locks, taken only when a state or a bucket changes. The array itself is the lock of what follows.</summary>
    private readonly object[] _gates = [.. Enumerable.Range(0, 32).Select(_ => new object())];

    private IEnumerator<KeyValuePair<TKey, CircuitBreaker>>? _hand;
    private int _capacity;
    private int _count;
    private int _made;
    private volatile bool _disposed;

    /// <summary>Creates an empty group.</summary>
    /// <param name="options">The options; copied.</param>
    /// <param name="timeProvider">The clock; default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Told when a circuit opens and closes; default none.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the message names all of them.</exception>
    public CircuitBreakerGroup(CircuitBreakerGroupOptions options, TimeProvider? timeProvider = null, ILogger<CircuitBreaker>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        _scope = new CircuitScope(options, timeProvider ?? TimeProvider.System, logger) { Describe = Describe };
        _capacity = options.Capacity;
        if (Name.Length > 0)
        {
            Telemetry.RegisterGroup(this, Name, CountByState);
        }
    }

    /// <summary>The name given by the options; the label on metrics.</summary>
    public string Name => _scope.Name;

    /// <summary>Gives the circuit of a key, making it when there is none. Ask each time, rather than keeping it: asking is what marks its use.</summary>
    /// <param name="key">The key.</param>
    /// <returns>The circuit.</returns>
    /// <exception cref="ObjectDisposedException">The group is disposed.</exception>
    public CircuitBreaker For(TKey key)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (!_circuits.TryGetValue(key, out CircuitBreaker? circuit))
        {
            circuit = Add(key);
        }

        // Written only when other circuits have been made since, so that a settled group stays in every core's cache.
        int made = Volatile.Read(ref _made);
        if (circuit.LastUse != made)
        {
            circuit.LastUse = made;
        }

        return circuit;
    }

    /// <summary>The circuits at this moment.</summary>
    /// <returns>Keys, states and the counts in the window, in no order.</returns>
    public IReadOnlyList<CircuitGroupEntry<TKey>> Snapshot()
    {
        var entries = new List<CircuitGroupEntry<TKey>>();
        foreach ((TKey key, CircuitBreaker circuit) in _circuits.ToArray())
        {
            CircuitState state = circuit.State;
            CallCounts counts = circuit.Counts;
            entries.Add(new CircuitGroupEntry<TKey>(key, state, counts.Successes, counts.Failures, counts.Slow));
        }

        return entries;
    }

    /// <summary>Gives all circuits new options; see <see cref="CircuitBreaker.Update"/>. Detached ones take them over at their next bucket. A smaller capacity drops circuits at once.</summary>
    /// <param name="options">The options; copied.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the old options stay in force.</exception>
    public void Update(CircuitBreakerGroupOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        _scope.Update(options);
        foreach ((_, CircuitBreaker circuit) in _circuits)
        {
            circuit.ApplySettings();
        }

        lock (_gates)
        {
            _capacity = options.Capacity;
            while (_count > _capacity)
            {
                Evict();
            }
        }
    }

    /// <summary>Drops all circuits. Those that are still held keep working, detached.</summary>
    public void Dispose()
    {
        lock (_gates)
        {
            _disposed = true;
            _circuits.Clear();
            _count = 0;
            _hand?.Dispose();
            _hand = null;
        }

        Telemetry.UnregisterGroup(this);
    }

    private CircuitBreaker Add(TKey key)
    {
        lock (_gates)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (_circuits.TryGetValue(key, out CircuitBreaker? circuit))
            {
                return circuit;
            }

            if (_count == _capacity)
            {
                Evict();
            }

            circuit = new CircuitBreaker(_scope, _gates[(uint)_made % _gates.Length], padded: false) { LastUse = ++_made };
            _circuits[key] = circuit;
            _count++;
            return circuit;
        }
    }

    /// <summary>
    /// Under the lock of the table. The hand goes on where it stopped, so that every circuit is looked at before one is looked at twice. A small
    /// sample will do when it holds one that is not busy and has not been used since a quarter of the table was made; neighbours may all be in use.
    /// </summary>
    private void Evict()
    {
        KeyValuePair<TKey, CircuitBreaker>? victim = null;
        bool victimIsBusy = true;
        int victimAge = -1;
        for (int seen = 0; seen < _count && (seen < SmallSample || (seen < LargeSample && (victimIsBusy || victimAge < _count / 4))); seen++)
        {
            KeyValuePair<TKey, CircuitBreaker> candidate = Next();
            bool isBusy = candidate.Value.IsBusy;
            int age = unchecked(_made - candidate.Value.LastUse);
            if ((victimIsBusy && !isBusy) || (victimIsBusy == isBusy && age > victimAge))
            {
                (victim, victimIsBusy, victimAge) = (candidate, isBusy, age);
            }
        }

        if (victim is { } found && _circuits.TryRemove(found.Key, out _))
        {
            _count--;
        }
    }

    private KeyValuePair<TKey, CircuitBreaker> Next()
    {
        while (true)
        {
            if (_hand?.MoveNext() == true)
            {
                // The hand may be at a circuit that has been dropped since it came by its part of the table.
                if (_circuits.TryGetValue(_hand.Current.Key, out CircuitBreaker? circuit) && circuit == _hand.Current.Value)
                {
                    return _hand.Current;
                }
            }
            else
            {
                _hand?.Dispose();
                _hand = _circuits.GetEnumerator();
            }
        }
    }

    private int[] CountByState()
    {
        int[] counts = new int[4];
        foreach ((_, CircuitBreaker circuit) in _circuits)
        {
            counts[(int)circuit.State]++;
        }

        return counts;
    }

    /// <summary>For the log, which is written only when a state changes.</summary>
    private string Describe(CircuitBreaker circuit)
    {
        foreach ((TKey key, CircuitBreaker candidate) in _circuits)
        {
            if (candidate == circuit)
            {
                return string.Create(CultureInfo.InvariantCulture, $"{Name}[{key}]");
            }
        }

        return Name;
    }
}
