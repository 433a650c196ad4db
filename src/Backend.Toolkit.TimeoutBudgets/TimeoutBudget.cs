namespace Backend.Toolkit.TimeoutBudgets;

/// <summary>
/// A deadline that flows through <c>await</c>: until it is disposed, this scope is <see cref="Current"/> in the code that started it and in all
/// that this code calls and starts. A scope inside another ends at the earlier of both deadlines; neither ever moves. After
/// <see cref="Dispose"/> it is <see cref="Current"/> nowhere: work that it started and that still runs falls back to the outer live scope, or to none.
/// Each scope with a deadline of its own has a token source of its own, which is never used again; one that an outer scope ends
/// shares the outer's and needs no timer. All deadlines of a clock stand in one hashed timing wheel (Varghese and Lauck 1987) with one timer.
/// Members are thread-safe. Cost: one precise clock read, two short locks, 120 bytes for the scope and its token source, 72 for the changed execution context.
/// </summary>
public sealed class TimeoutBudget : IDisposable
{
    private readonly BudgetScope _scope;

    /// <summary>Made when the first one gives up. Of the outermost scope, for all inside it.</summary>
    private HashSet<string>? _exhausted;

    internal TimeoutBudget(BudgetScope scope) => _scope = scope;

    /// <summary>The innermost live scope of the running code; null when there is none, or it is suppressed.</summary>
    public static TimeoutBudget? Current => BudgetScope.Current?.Face;

    /// <summary>The name given at the start; for the scope of a <see cref="TimeoutBudgetPolicy"/>, the policy's. May be empty.</summary>
    public string Name => _scope.Name;

    /// <summary>
    /// The time that this scope had when it started: what was asked for, or what an outer scope had left where that is not more.
    /// <see cref="TimeSpan.MaxValue"/> when it has no deadline.
    /// </summary>
    public TimeSpan Total => _scope.Total;

    /// <summary>The time until the deadline by the precise clock, never negative; <see cref="TimeSpan.MaxValue"/> when there is no deadline.</summary>
    public TimeSpan Remaining => _scope.Remaining;

    /// <summary>Whether the deadline has passed, by the precise clock. The <see cref="Token"/> follows, as soon as the timer does.</summary>
    public bool IsExpired => _scope.IsExpired;

    /// <summary>
    /// Fires when the deadline has passed, never before; or when the token given at the start fires, or that of the scope around it while that lives.
    /// It never belongs to another scope with another deadline. After <see cref="Dispose"/> the deadline does not fire it any more (unless an inner
    /// scope that depends on the same deadline still runs). Callbacks registered on it run on the thread pool when a deadline fires it.
    /// </summary>
    public CancellationToken Token => _scope.Token;

    /// <summary>
    /// Whether a call that was made inside this budget, or inside an outer or inner one of the same nest, has given up on a dependency that has not
    /// answered since. The caller of this service would multiply the load by calling again: whatever answers it can say so.
    /// </summary>
    public bool RetriesExhausted
    {
        get
        {
            HashSet<string>? exhausted = Volatile.Read(ref Outermost._exhausted);
            if (exhausted is null)
            {
                return false;
            }

            lock (exhausted)
            {
                return exhausted.Count > 0;
            }
        }
    }

    /// <summary>Of all budgets of one nest, the one that keeps what is said about all.</summary>
    private TimeoutBudget Outermost => _scope.Outermost is var outermost && ReferenceEquals(outermost, _scope) ? this : outermost.Face;

    /// <summary>Starts a scope. Dispose it in the method that started it.</summary>
    /// <param name="total">
    /// The time that it has. Zero: it is expired from the start. <see cref="Timeout.InfiniteTimeSpan"/>: no deadline of its own. No upper limit.
    /// </param>
    /// <param name="name">A name, which <see cref="Name"/> tells.</param>
    /// <param name="timeProvider">The clock; default <see cref="TimeProvider.System"/>.</param>
    /// <param name="cancellationToken">Fires the scope's token too.</param>
    /// <returns>The scope, which is <see cref="Current"/> from now on.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="total"/> is negative and not infinite.</exception>
    public static TimeoutBudget Start(
        TimeSpan total, string name = "", TimeProvider? timeProvider = null, CancellationToken cancellationToken = default)
    {
        BudgetScope scope = Open(total, name, timeProvider, cancellationToken);
        scope.Enter();
        return scope.Face;
    }

    /// <summary>
    /// Starts a scope that is <see cref="Current"/> nowhere: inside the current one it ends with it, but only who holds it knows of it. For what
    /// outlives the method that starts it, such as a stream that is handed on. Dispose it anywhere.
    /// </summary>
    /// <param name="total">As for <see cref="Start"/>.</param>
    /// <param name="name">As for <see cref="Start"/>.</param>
    /// <param name="timeProvider">As for <see cref="Start"/>.</param>
    /// <param name="cancellationToken">Fires the scope's token too.</param>
    /// <returns>The scope.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="total"/> is negative and not infinite.</exception>
    public static TimeoutBudget StartDetached(
        TimeSpan total, string name = "", TimeProvider? timeProvider = null, CancellationToken cancellationToken = default) =>
        Open(total, name, timeProvider, cancellationToken).Face;

    private static BudgetScope Open(TimeSpan total, string name, TimeProvider? timeProvider, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (!TimeoutBudgetOptions.IsValidTotal(total))
        {
            throw new ArgumentOutOfRangeException(nameof(total), total, "A total must be zero, greater than 0, or Timeout.InfiniteTimeSpan.");
        }

        var table = DeadlineTable.For(timeProvider);
        return BudgetScope.Open(new BudgetLayer(table, name), table.ToUnits(total), cancellationToken);
    }

    /// <summary>What is left of the current scope; null when there is none or it has no deadline. Made to be handed to what takes a <c>Func&lt;TimeSpan?&gt;</c>.</summary>
    /// <returns>The time left, never negative, or null.</returns>
    public static TimeSpan? TimeLeft() => BudgetScope.Current is { HasDeadline: true } scope ? scope.Remaining : null;

    /// <summary>
    /// Hides the current scope from the code until the returned object is disposed, and from all work started meanwhile for good:
    /// what is queued there neither sees the budget nor inherits it. Dispose it in the method that called this.
    /// </summary>
    /// <returns>Ends the suppression in the code that disposes it.</returns>
    public static IDisposable Suppress() => new Suppression(BudgetScope.Suppress());

    /// <summary>A part of what is left.</summary>
    /// <param name="fraction">The part, above 0 to 1.</param>
    /// <param name="floor">The least worth having; zero or more. Given when the part is less and that much is left.</param>
    /// <returns>The part, or <paramref name="floor"/> where that is more; never more than <see cref="Remaining"/>.</returns>
    /// <exception cref="ArgumentOutOfRangeException">An argument is out of its range.</exception>
    public TimeSpan Slice(double fraction, TimeSpan floor = default)
    {
        if (fraction is not (> 0 and <= 1))
        {
            throw new ArgumentOutOfRangeException(nameof(fraction), fraction, "A fraction must be greater than 0 and at most 1.");
        }

        TimeSpan remaining = Remaining;
        return Clamp(remaining == TimeSpan.MaxValue ? remaining : remaining * fraction, floor, remaining);
    }

    /// <summary>An equal share of what is left.</summary>
    /// <param name="attemptsLeft">Among how many, the one about to start included; at least 1.</param>
    /// <param name="floor">The least worth having; zero or more. Given when the share is less and that much is left.</param>
    /// <returns>The share, or <paramref name="floor"/> where that is more; never more than <see cref="Remaining"/>.</returns>
    /// <exception cref="ArgumentOutOfRangeException">An argument is out of its range.</exception>
    public TimeSpan Slice(int attemptsLeft, TimeSpan floor = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(attemptsLeft, 1);
        TimeSpan remaining = Remaining;
        return Clamp(remaining == TimeSpan.MaxValue ? remaining : new TimeSpan(remaining.Ticks / attemptsLeft), floor, remaining);
    }

    /// <summary>Tells that a call has given up on a dependency: <see cref="RetriesExhausted"/> until <see cref="ClearRetriesExhausted"/> with the same name.</summary>
    /// <param name="dependency">What was called, such as an authority. Names are compared by their characters.</param>
    public void MarkRetriesExhausted(string dependency)
    {
        ArgumentNullException.ThrowIfNull(dependency);
        TimeoutBudget outermost = Outermost;
        HashSet<string> exhausted = Volatile.Read(ref outermost._exhausted)
            ?? Interlocked.CompareExchange(ref outermost._exhausted, [], null)
            ?? outermost._exhausted!;
        lock (exhausted)
        {
            exhausted.Add(dependency);
        }
    }

    /// <summary>Tells that a later call to the dependency has succeeded.</summary>
    /// <param name="dependency">The name given to <see cref="MarkRetriesExhausted"/>. One that was never given is no error.</param>
    public void ClearRetriesExhausted(string dependency)
    {
        ArgumentNullException.ThrowIfNull(dependency);
        HashSet<string>? exhausted = Volatile.Read(ref Outermost._exhausted);
        if (exhausted is not null)
        {
            lock (exhausted)
            {
                exhausted.Remove(dependency);
            }
        }
    }

    /// <summary>
    /// Ends the scope: it is <see cref="Current"/> nowhere, and its deadline fires nothing any more. A second call does nothing; nor does this for the
    /// scope of a <see cref="TimeoutBudgetPolicy"/>, which ends with the execution.
    /// </summary>
    public void Dispose()
    {
        if (_scope.IsEndedByUser)
        {
            _scope.End();
            _scope.Leave();
        }
    }

    private static TimeSpan Clamp(TimeSpan part, TimeSpan floor, TimeSpan remaining)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(floor, TimeSpan.Zero);
        part = part < floor ? floor : part;
        return part < remaining ? part : remaining;
    }

    private sealed class Suppression((BudgetScope Marker, BudgetScope? Around) suppressed) : IDisposable
    {
        public void Dispose() => suppressed.Marker.Leave(suppressed.Around);
    }
}
