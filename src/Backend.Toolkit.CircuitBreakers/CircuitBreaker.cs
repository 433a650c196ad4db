using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.CircuitBreakers;

/// <summary>
/// Stops calling a dependency that fails or hangs, and probes it until it answers again. Guarantees: a result from before the last opening
/// never moves the state; a half-open circuit has at most <see cref="CircuitBreakerOptions.ProbeCount"/> probes out and leaves that state
/// within one <see cref="CircuitBreakerOptions.ProbeLease"/>; time is monotonic.
/// How: a closed period is an object (<see cref="CallWindow"/>) that its permits point to; everything else is decided under one lock.
/// Thread-safe. Cost: closed, one volatile read to enter and one interlocked operation to report; open, one clock read to reject.
/// Source: M. Nygard, Release It!, "Circuit Breaker"; slow-call ratio after Resilience4j, here with calls in flight.
/// </summary>
public sealed partial class CircuitBreaker
{
    private readonly CircuitScope _scope;
    private readonly object _gate;
    private readonly bool _padded;

    /// <summary>The window of the closed period; null while the circuit is not closed. Written under the lock.</summary>
    private CallWindow? _window;

    /// <summary>All that concerns a circuit that is not closed; null until the first opening. Its members are guarded by the lock.</summary>
    private Outage? _outage;

    /// <summary>Creates a circuit breaker, closed.</summary>
    /// <param name="options">The options; copied.</param>
    /// <param name="timeProvider">The clock; default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Told when the circuit opens and closes; default none.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the message names all of them.</exception>
    public CircuitBreaker(CircuitBreakerOptions options, TimeProvider? timeProvider = null, ILogger<CircuitBreaker>? logger = null)
        : this(new CircuitScope(NotNull(options), timeProvider ?? TimeProvider.System, logger), new object(), padded: true)
    {
        if (Name.Length > 0)
        {
            Telemetry.Register(this);
        }
    }

    internal CircuitBreaker(CircuitScope scope, object gate, bool padded)
    {
        _scope = scope;
        _gate = gate;
        _padded = padded;
        _window = NewWindow(scope.Clock.Now, scope.Settings);
    }

    /// <summary>
    /// Raised after each change of state, in order, one at a time, outside any lock, on the thread that caused the change. A circuit whose break is
    /// over reads <see cref="CircuitState.HalfOpen"/> at once but raises the event at its first probe. A handler that throws is logged and harms nobody.
    /// </summary>
    public event EventHandler<CircuitStateChangedEventArgs>? StateChanged;

    /// <summary>The name given by the options; the label on metrics.</summary>
    public string Name => _scope.Name;

    /// <summary>
    /// The state at this moment, computed from time: an open circuit whose break is over reads half-open with no traffic, a half-open one
    /// whose lease is over reads open again, a closed one opens when the calls in flight have become slow.
    /// </summary>
    public CircuitState State
    {
        get
        {
            CatchUp();
            if (Volatile.Read(ref _window) is not null)
            {
                return CircuitState.Closed;
            }

            lock (_gate)
            {
                return StateAt(_scope.Clock.Now);
            }
        }
    }

    /// <summary>The calls counted in the window; all zero while the circuit is not closed.</summary>
    internal CallCounts Counts
    {
        get
        {
            CatchUp();
            lock (_gate)
            {
                return _window?.Total() ?? default;
            }
        }
    }

    /// <summary>A group's mark of the last use; see <see cref="CircuitBreakerGroup{TKey}"/>.</summary>
    internal int LastUse { get; set; }

    /// <summary>True when losing this circuit would lose something: a break or a round of probes is running, or tracked calls are in flight.</summary>
    internal bool IsBusy => Volatile.Read(ref _window) is { } window
        ? window.SlowCalls?.Any() == true
        : _outage is { } outage && (_scope.Clock.Now is var now && (now < Volatile.Read(ref outage.RejectUntil) || (outage.State == CircuitState.HalfOpen && now < outage.RoundEnd)));

    /// <summary>Runs the action unless the circuit rejects it, and counts how it ended.</summary>
    /// <typeparam name="TState">What is handed to the action, to spare a closure.</typeparam>
    /// <typeparam name="TResult">The result of the action.</typeparam>
    /// <param name="action">The call. It gets the caller's token; a timeout of its own is a failure.</param>
    /// <param name="state">Handed to the action.</param>
    /// <param name="cancellationToken">The caller's token. Once it is cancelled, an exception of the action is neutral: it counts neither as success nor as failure.</param>
    /// <returns>The result of the action, or its exception, untouched.</returns>
    /// <exception cref="CircuitOpenException">The circuit rejected the call; the action did not run.</exception>
    /// <exception cref="ArgumentNullException">The action is null (thrown at once; all else comes out through the task).</exception>
    [OverloadResolutionPriority(1)]
    public ValueTask<TResult> ExecuteAsync<TState, TResult>(
        Func<TState, CancellationToken, ValueTask<TResult>> action, TState state, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<TResult>(cancellationToken);
        }

        if (!TryEnter(out CircuitPermit permit))
        {
            return ValueTask.FromException<TResult>(Rejection());
        }

        ValueTask<TResult> pending;
        try
        {
            pending = action(state, cancellationToken);
        }
        catch (Exception exception)
        {
            pending = ValueTask.FromException<TResult>(exception);
        }

        if (pending.IsCompletedSuccessfully && _scope.Settings.ResultPredicates.Length == 0)
        {
            TResult result = pending.Result;
            Report(permit, CallOutcome.Success);
            return new ValueTask<TResult>(result);
        }

        return CompleteAsync(pending, permit, cancellationToken);
    }

    /// <summary>
    /// Asks for the right to make one call; neither throws nor allocates. <c>ExecuteAsync</c> is the safe path: use this where a delegate
    /// does not fit, and complete the permit on every path.
    /// </summary>
    /// <param name="permit">To be completed, once, when the result is true.</param>
    /// <returns>False when the circuit rejects the call.</returns>
    public bool TryEnter(out CircuitPermit permit)
    {
        CallWindow? window = Volatile.Read(ref _window);
        if (window is not null && window.SlowCalls is null)
        {
            permit = new CircuitPermit(this, window, 0, -1);
            return true;
        }

        return window is not null && TryEnterTracked(window, out permit) || TryEnterNotClosed(out permit);
    }

    /// <summary>Opens the circuit until <see cref="Reset"/>, whatever the calls do.</summary>
    public void Isolate()
    {
        lock (_gate)
        {
            Outage outage = _outage ??= new Outage();
            Record(outage, CircuitState.Isolated, default);
            outage.State = CircuitState.Isolated;
            Volatile.Write(ref outage.RejectUntil, long.MaxValue);
            Volatile.Write(ref _window, null);
        }

        Announce();
    }

    /// <summary>Closes the circuit with an empty window, whatever its state.</summary>
    public void Reset()
    {
        lock (_gate)
        {
            Close(_scope.Clock.Now);
        }

        Announce();
    }

    /// <summary>
    /// Gives the circuit new options. Counts, state and the end of a running break stay; lengths of time apply from the next bucket, break and
    /// round on. The name stays.
    /// </summary>
    /// <param name="options">The options; copied.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the old options stay in force.</exception>
    public void Update(CircuitBreakerOptions options)
    {
        _scope.Update(NotNull(options));
        ApplySettings();
    }

    /// <summary>Takes the state, to be restored later or elsewhere.</summary>
    /// <returns>The state, what is left of the break, and the UTC instant.</returns>
    public CircuitSnapshot Capture()
    {
        CatchUp();
        lock (_gate)
        {
            long now = _scope.Clock.Now;
            CircuitState state = StateAt(now);
            TimeSpan remaining = state == CircuitState.Open ? _scope.Clock.ToTimeSpan(_outage!.RejectUntil - now) : TimeSpan.Zero;
            int openings = state == CircuitState.Closed ? 0 : _outage!.Openings;
            return new CircuitSnapshot(state, remaining, openings, _scope.TimeProvider.GetUtcNow());
        }
    }

    /// <summary>
    /// Takes over a captured state. The wall time that has passed since is taken off the break, clamped to [0, remaining], so a clock that
    /// was set back or far ahead neither lengthens the break nor makes it negative.
    /// </summary>
    /// <param name="snapshot">What <see cref="Capture"/> gave.</param>
    /// <exception cref="ArgumentOutOfRangeException">The state, the remaining break (0 to 2 days, the longest with jitter) or the openings (0 or more) of the snapshot are not possible.</exception>
    public void Restore(CircuitSnapshot snapshot)
    {
        if (!Enum.IsDefined(snapshot.State))
        {
            throw new ArgumentOutOfRangeException(nameof(snapshot), snapshot.State, "The state of the snapshot must be one of CircuitState.");
        }

        if (snapshot.RemainingBreak < TimeSpan.Zero || snapshot.RemainingBreak > 2 * CircuitBreakerOptions.LongestDuration)
        {
            throw new ArgumentOutOfRangeException(nameof(snapshot), snapshot.RemainingBreak, "The remaining break of the snapshot must be between 0 and 2 days.");
        }

        ArgumentOutOfRangeException.ThrowIfNegative(snapshot.Openings, nameof(snapshot));
        switch (snapshot.State)
        {
            case CircuitState.Closed:
                Reset();
                return;
            case CircuitState.Isolated:
                Isolate();
                return;
        }

        TimeSpan elapsed = _scope.TimeProvider.GetUtcNow() - snapshot.CapturedAt;
        TimeSpan remaining = snapshot.State == CircuitState.HalfOpen ? TimeSpan.Zero
            : snapshot.RemainingBreak - TimeSpan.FromTicks(Math.Clamp(elapsed.Ticks, 0, snapshot.RemainingBreak.Ticks));
        lock (_gate)
        {
            Outage outage = _outage ??= new Outage();
            Open(outage, _scope.Clock.Now, remaining, default);
            outage.Openings = Math.Max(1, snapshot.Openings);
        }

        Announce();
    }

    /// <summary>What the new options say about calls in flight holds from now on.</summary>
    internal void ApplySettings()
    {
        if (Volatile.Read(ref _window) is { } window)
        {
            Advance(window, _scope.Clock.Now, _scope.Settings);
        }
    }

    internal void Report(in CircuitPermit permit, CallOutcome outcome)
    {
        if (permit.Window is not { } window)
        {
            if (permit.Slot >= 0)
            {
                ReportProbe(permit, outcome);
            }

            return;
        }

        CircuitSettings settings = _scope.Settings;
        long now = _scope.Clock.Now;
        long delta = outcome switch
        {
            CallOutcome.Success => CallWindow.OneSuccess,
            CallOutcome.Failure => CallWindow.OneFailure,
            _ => 0,
        };
        // Before the call leaves: with it, the calls in flight may be enough to open the circuit.
        if (window.IsBehind(now))
        {
            Advance(window, now, settings);
        }

        if (permit.Slot >= 0)
        {
            Leave(window.SlowCalls!, permit.Slot);
            if (delta != 0 && settings.SlowUnits > 0 && now - permit.Stamp > settings.SlowUnits)
            {
                delta |= CallWindow.OneSlow;
            }
        }

        if (delta == 0)
        {
            return;
        }

        bool spotless = window.Add(delta);
        window.CountInARow(outcome == CallOutcome.Failure);
        if (!spotless && ShouldOpen(window, window.Total(), settings))
        {
            Trip(window);
        }
    }

    private static CircuitBreakerOptions NotNull(CircuitBreakerOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options;
    }

    /// <summary>The rule by which a closed circuit opens. Read without the lock it is a hint, under the lock it is the decision.</summary>
    private static bool ShouldOpen(CallWindow window, in CallCounts counts, CircuitSettings settings) =>
        HasFailed(window, counts, settings) || IsSlow(window, counts, settings);

    private static bool HasFailed(CallWindow window, in CallCounts counts, CircuitSettings settings) =>
        settings.ConsecutiveFailures > 0
            ? window.FailuresInARow >= settings.ConsecutiveFailures
            : counts.Failures > 0 && Exceeds(counts.Failures, counts.Successes + counts.Failures, settings.FailureRatio, settings);

    private static bool IsSlow(CallWindow window, in CallCounts counts, CircuitSettings settings)
    {
        if (settings.SlowUnits == 0 || window.SlowCalls is not { } slowCalls)
        {
            return false;
        }

        int overdue = slowCalls.Overdue;
        long slow = counts.Slow + overdue;
        return slow > 0 && Exceeds(slow, counts.Successes + counts.Failures + overdue, settings.SlowCallRatio, settings);
    }

    private static bool Exceeds(long part, long all, double ratio, CircuitSettings settings) =>
        all >= settings.MinimumThroughput && (double)part / all >= ratio;

    private CallWindow NewWindow(long now, CircuitSettings settings) =>
        _padded ? new PaddedCallWindow(now, settings) : new CallWindow(now, settings);

    private async ValueTask<TResult> CompleteAsync<TResult>(ValueTask<TResult> pending, CircuitPermit permit, CancellationToken cancellationToken)
    {
        CallOutcome outcome = CallOutcome.Neutral;
        try
        {
            TResult result = await pending.ConfigureAwait(false);
            outcome = Judge(result, static (settings, result) => settings.IsFailureResult(result));
            return result;
        }
        catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
        {
            outcome = Judge(exception, static (settings, exception) => settings.IsFailure?.Invoke(exception) != false);
            throw;
        }
        finally
        {
            // Still neutral: any exception once the caller has cancelled, since many drivers report a cancellation as an error of their own.
            Report(permit, outcome);
        }
    }

    /// <summary>A predicate that throws leaves the call neutral and never hides its outcome.</summary>
    private CallOutcome Judge<T>(T value, Func<CircuitSettings, T, bool> isFailure)
    {
        try
        {
            return isFailure(_scope.Settings, value) ? CallOutcome.Failure : CallOutcome.Success;
        }
        catch (Exception exception)
        {
            LogQuietly(static (logger, name, exception, _) => Log.PredicateThrew(logger, exception, name), exception);
            return CallOutcome.Neutral;
        }
    }

    /// <summary>Enters a closed circuit that tracks calls in flight; false when looking at the time opened it.</summary>
    private bool TryEnterTracked(CallWindow window, out CircuitPermit permit)
    {
        CircuitSettings settings = _scope.Settings;
        long now = _scope.Clock.Now;
        if (window.IsBehind(now))
        {
            Advance(window, now, settings);
            if (Volatile.Read(ref _window) != window)
            {
                permit = default;
                return false;
            }
        }

        permit = new CircuitPermit(this, window, now, settings.SlowUnits > 0 ? window.SlowCalls!.Enter() : -1);
        return true;
    }

    private bool TryEnterNotClosed(out CircuitPermit permit)
    {
        permit = default;

        // The cheap rejection: an open circuit whose break is not over needs no lock.
        Outage? outage = _outage;
        long now = _scope.Clock.Now;
        if (outage is not null && now < Volatile.Read(ref outage.RejectUntil) && Volatile.Read(ref _window) is null)
        {
            return Reject(out permit);
        }

        CatchUp();
        bool admitted = false;
        lock (_gate)
        {
            if (_window is { } window)
            {
                // Closed meanwhile. One slow call more or less in flight does not matter here.
                permit = new CircuitPermit(this, window, now, -1);
                return true;
            }

            if (StateAt(now) == CircuitState.HalfOpen)
            {
                CircuitSettings settings = _scope.Settings;
                if (_outage!.State == CircuitState.Open)
                {
                    Record(_outage, CircuitState.HalfOpen, default);
                    _outage.StartRound(now, settings);
                }

                long sequence = _scope.NextProbe();
                admitted = _outage.TryAddProbe(now, sequence, out int slot);
                permit = new CircuitPermit(this, null, sequence, slot);
            }
        }

        Announce();
        return admitted || Reject(out permit);
    }

    /// <summary>Shadow mode lets the call pass, uncounted, since it would not have been made.</summary>
    private bool Reject(out CircuitPermit permit)
    {
        bool shadow = _scope.Settings.Shadow;
        Telemetry.Rejected(Name, shadow);
        permit = shadow ? new CircuitPermit(this, null, 0, -1) : default;
        return shadow;
    }

    private CircuitOpenException Rejection()
    {
        lock (_gate)
        {
            long now = _scope.Clock.Now;
            CircuitState state = StateAt(now);
            TimeSpan retryAfter = state switch
            {
                CircuitState.Isolated => Timeout.InfiniteTimeSpan,
                CircuitState.Open => _scope.Clock.ToTimeSpan(_outage!.RejectUntil - now) + _scope.Clock.Staleness,
                _ => TimeSpan.Zero,
            };
            return new CircuitOpenException(Name, state == CircuitState.Closed ? CircuitState.HalfOpen : state, retryAfter);
        }
    }

    private void Leave(SlowCalls slowCalls, int cohort)
    {
        if (!slowCalls.TryLeave(cohort))
        {
            lock (_gate)
            {
                slowCalls.LeaveOverdue();
            }
        }
    }

    /// <summary>Moves the window and the cohorts on, and opens the circuit when that shows that it should.</summary>
    private void Advance(CallWindow window, long now, CircuitSettings settings)
    {
        bool shouldOpen;
        lock (_gate)
        {
            window.Advance(now, settings, _padded);
            shouldOpen = IsSlow(window, window.Total(), settings);
        }

        if (shouldOpen)
        {
            Trip(window);
        }
    }

    /// <summary>Makes true what time alone has made true: slow calls in flight open the circuit, a half-open round past its lease re-opens it.</summary>
    private void CatchUp()
    {
        long now = _scope.Clock.Now;
        if (Volatile.Read(ref _window) is { } window)
        {
            if (window.IsBehind(now))
            {
                Advance(window, now, _scope.Settings);
            }

            return;
        }

        lock (_gate)
        {
            if (_outage is not { State: CircuitState.HalfOpen } outage || _window is not null || now < outage.RoundEnd)
            {
                return;
            }

            // Nobody's fault when every probe came back without a verdict: the break does not grow.
            Reopen(outage, outage.RoundEnd, grown: outage.HasProbes);
        }

        Announce();
    }

    private void Trip(CallWindow window)
    {
        lock (_gate)
        {
            CircuitSettings settings = _scope.Settings;
            CallCounts counts = window.Total();
            if (_window != window || !ShouldOpen(window, counts, settings))
            {
                return;
            }

            Outage outage = _outage ??= new Outage();
            outage.Openings = 1;
            OpenForBreak(outage, _scope.Clock.Now, counts);
        }

        Announce();
    }

    private void ReportProbe(in CircuitPermit permit, CallOutcome outcome)
    {
        CatchUp();
        lock (_gate)
        {
            if (_window is not null || _outage is not { State: CircuitState.HalfOpen } outage || !outage.TryTakeProbe(permit.Slot, permit.Stamp, out long started))
            {
                return;
            }

            CircuitSettings settings = _scope.Settings;
            long now = _scope.Clock.Now;
            if (outcome == CallOutcome.Failure || (outcome == CallOutcome.Success && settings.SlowUnits > 0 && now - started > settings.SlowUnits))
            {
                Reopen(outage, now, grown: true);
            }
            else if (outcome == CallOutcome.Success && ++outage.Successes >= settings.ProbeSuccesses)
            {
                Close(now);
            }
        }

        Announce();
    }

    /// <summary>Under the lock.</summary>
    private CircuitState StateAt(long now) =>
        _window is not null ? CircuitState.Closed
        : _outage!.State == CircuitState.Open && now >= _outage.RejectUntil ? CircuitState.HalfOpen
        : _outage.State;

    /// <summary>Under the lock.</summary>
    private void Close(long now)
    {
        if (_window is null)
        {
            Record(_outage!, CircuitState.Closed, default);
            _outage!.Openings = 0;
        }

        Volatile.Write(ref _window, NewWindow(now, _scope.Settings));
    }

    /// <summary>Under the lock.</summary>
    private void Reopen(Outage outage, long now, bool grown)
    {
        outage.Openings += grown && outage.Openings < int.MaxValue ? 1 : 0;
        OpenForBreak(outage, now, default);
    }

    /// <summary>Under the lock. With a delegate the fixed break holds until the delegate has been asked, outside the lock.</summary>
    private void OpenForBreak(Outage outage, long now, CallCounts counts)
    {
        CircuitSettings settings = _scope.Settings;
        Open(outage, now, settings.Break(outage.Openings), counts);
        outage.AwaitsBreak = settings.BreakDurationFor is not null;
    }

    /// <summary>Under the lock.</summary>
    private void Open(Outage outage, long now, TimeSpan duration, CallCounts counts)
    {
        Record(outage, CircuitState.Open, counts);
        outage.MakeSlots(_scope.Settings);
        outage.Break = duration;
        outage.State = CircuitState.Open;
        outage.Opening++;
        outage.OpenedAt = now;
        outage.AwaitsBreak = false;
        Volatile.Write(ref outage.RejectUntil, now + _scope.Clock.ToUnits(duration));
        Volatile.Write(ref _window, null);
    }
}
