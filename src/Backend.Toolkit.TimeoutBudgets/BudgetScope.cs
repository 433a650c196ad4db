namespace Backend.Toolkit.TimeoutBudgets;

/// <summary>
/// What stands behind a <see cref="TimeoutBudget"/>: the deadline, the token source (itself, to save an object), the place in the table and the
/// scope around it. Nests, and ends. It is never used twice, so no token that somebody kept can fire for another execution.
/// A scope that has nothing to add to the outer one hands on its token and <b>holds</b> it: should that be disposed first, its deadline
/// stays in the table until the inner ends too. All others stand in the table themselves, so that none waits for the callbacks of another.
/// Fields that change are guarded by the lock of the stripe, unless said otherwise.
/// </summary>
internal class BudgetScope : CancellationTokenSource
{
    private static readonly AsyncLocal<BudgetScope?> Ambient = new();

    /// <summary>Null for the marker that <see cref="Suppress"/> leaves.</summary>
    private readonly BudgetLayer? _layer;

    /// <summary>The outer scope whose token this one hands on, when it has nothing to add to it. Held.</summary>
    private readonly BudgetScope? _source;

    private readonly long _start;
    private readonly byte _stripe;

    /// <summary>Whether the token given at the start is that of a scope around this one.</summary>
    private bool _callerIsOuter;

    /// <summary>
    /// The scope around this one, or the marker of a suppression. When this scope has ended it steps over others that have,
    /// so that no chain of them is kept alive. Read without the lock: each value is an ancestor.
    /// </summary>
    private BudgetScope? _outer;

    /// <summary>What the user sees of this scope; made when somebody asks, dropped at the end.</summary>
    private TimeoutBudget? _face;

    /// <summary>This scope until it ends, and each inner scope that holds it until that ends.</summary>
    private int _holders = 1;

    /// <summary>Written under the lock, read without.</summary>
    private volatile bool _ended;

    internal bool IsInTable;
    internal BudgetScope? Next, Previous;

    private BudgetScope(BudgetLayer? layer, byte stripe, BudgetScope? outer, long start, long deadline, bool ownDeadline, BudgetScope? source = null)
    {
        _layer = layer;
        _stripe = stripe;
        _start = start;
        Deadline = deadline;
        HasOwnDeadline = ownDeadline;
        if (outer is not null)
        {
            _outer = outer;
            _source = source;
        }
    }

    /// <summary>The innermost live scope of the running code; null when there is none or it is suppressed.</summary>
    public static BudgetScope? Current => NearestLive(Ambient.Value) is { _layer: not null } scope ? scope : null;

    public string Name => _layer!.Name;

    public bool IsEndedByUser => _layer!.IsEndedByUser;

    /// <summary>In the units of the table.</summary>
    public long Deadline { get; }

    public bool HasDeadline => Deadline != DeadlineTable.Never;

    /// <summary>Whether the deadline comes from this scope's own total, not from an outer scope.</summary>
    public bool HasOwnDeadline { get; }

    public bool StartedExpired => Deadline <= _start;

    public bool IsExpired => HasDeadline && Deadline <= Table.Now;

    public TimeSpan Total => HasDeadline ? Table.ToTimeSpan(Math.Max(0, Deadline - _start)) : TimeSpan.MaxValue;

    public TimeSpan Remaining => HasDeadline ? Table.ToTimeSpan(Math.Max(0, Deadline - Table.Now)) : TimeSpan.MaxValue;

    public TimeSpan Elapsed => Table.ToTimeSpan(Math.Max(0, Table.Now - _start));

    public new CancellationToken Token => _source is null ? base.Token : _source.Token;

    /// <summary>
    /// Whether somebody cancelled, as told from a deadline that passed: the caller of this scope or of a live one around it. The token of a scope
    /// around this one says nothing here, for it fires at a deadline too, and a deadline further out is never the earlier one.
    /// </summary>
    public bool IsCancelledByCaller(CancellationToken callerToken)
    {
        if (callerToken.IsCancellationRequested && !_callerIsOuter)
        {
            return true;
        }

        for (BudgetScope? scope = _outer; scope is { _layer: not null }; scope = scope._outer)
        {
            if (scope is LinkedScope { IsCallerCancelled: true })
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The last live scope outwards, up to a suppression; this one when there is none around it.</summary>
    public BudgetScope Outermost
    {
        get
        {
            BudgetScope outermost = this;
            while (NearestLive(outermost._outer) is { _layer: not null } outer)
            {
                outermost = outer;
            }

            return outermost;
        }
    }

    public TimeoutBudget Face
    {
        get
        {
            TimeoutBudget? face = Volatile.Read(ref _face);
            if (face is not null)
            {
                return face;
            }

            face = new TimeoutBudget(this);
            return Interlocked.CompareExchange(ref _face, face, null) ?? face;
        }
    }

    private DeadlineTable Table => _layer!.Table;

    private DeadlineTable.Stripe Stripe => Table.StripeAt(_stripe);

    /// <summary>
    /// Starts a scope whose own deadline is <paramref name="length"/> units from now. The caller ends it; if it also enters it, it puts the
    /// execution context back or calls <see cref="Leave"/>.
    /// </summary>
    public static BudgetScope Open(BudgetLayer layer, long length, CancellationToken cancellationToken)
    {
        BudgetScope? outer = NearestLive(Ambient.Value);
        long start = layer.Table.Now;
        long deadline = DeadlineTable.After(start, length);
        return outer is null
            ? OpenAlone(layer, outer, start, deadline, cancellationToken)
            : OpenInside(layer, outer, start, deadline, cancellationToken);
    }

    /// <summary>Makes the scope current.</summary>
    public void Enter() => Ambient.Value = this;

    /// <summary>
    /// A scope that fires when this one does, and on whose token nobody else has a callback: it comes on time even when one on this one's token
    /// blocks. It is current nowhere. The caller ends it.
    /// </summary>
    public BudgetScope OpenAlarm(CancellationToken callerToken)
    {
        var alarm = new LinkedScope(
            _layer!, Table.NearStripe, _outer, Table.Now, Deadline, ownDeadline: false, callerToken, _outer is { _layer: not null } outer ? outer.Token : default);
        alarm.Watch();
        return alarm;
    }

    /// <summary>Hides what is current: from this code until the marker is left, and from work started meanwhile for good.</summary>
    public static (BudgetScope Marker, BudgetScope? Around) Suppress()
    {
        BudgetScope? around = NearestLive(Ambient.Value);
        var marker = new BudgetScope(null, 0, around, 0, DeadlineTable.Never, ownDeadline: false);
        Ambient.Value = marker;
        return (marker, around);
    }

    /// <summary>Ends the scope. The execution context is left alone: from now on whoever has the scope in it looks through to the scope around.</summary>
    public void End()
    {
        DeadlineTable.Stripe stripe = Stripe;
        stripe.Enter();
        if (!_ended)
        {
            _ended = true;
            (this as LinkedScope)?.UnlinkCaller();

            // A scope stands on the same stripe as the one that it holds, so this lock guards both.
            for (BudgetScope? scope = this; scope is not null && --scope._holders == 0;)
            {
                scope = scope.Release(stripe);
            }
        }

        stripe.Exit();
    }

    /// <summary>Makes current what is around this scope, if this scope, or this marker, is what the running code has.</summary>
    /// <param name="around">For a marker, what was around it when it was made: the marker itself may have been left in another flow.</param>
    public void Leave(BudgetScope? around = null)
    {
        if (ReferenceEquals(Ambient.Value, this))
        {
            BudgetScope? outer = around ?? _outer;
            while (outer is { _ended: true })
            {
                outer = outer._outer;
            }

            Ambient.Value = outer;
            if (_layer is null)
            {
                // Work started inside still has the marker, which hides what is around it for good, also when a scope on top of it ends.
                _outer = null;
            }
        }

        if (_layer is null)
        {
            // Left out of order: what stands on the marker here steps over it, above, when that is left.
            _ended = true;
        }
    }

    /// <summary>Called under the lock when the scope has ended, and every inner one that held it.</summary>
    /// <returns>The scope that this one held.</returns>
    private BudgetScope? Release(DeadlineTable.Stripe stripe)
    {
        if (IsInTable)
        {
            stripe.Remove(this);
        }

        _face = null;
        if (_outer is not null)
        {
            _outer = NearestLive(_outer);
        }

        (this as LinkedScope)?.UnlinkOuter();
        return _source;
    }

    private static BudgetScope OpenAlone(BudgetLayer layer, BudgetScope? marker, long start, long deadline, CancellationToken cancellationToken)
    {
        bool own = deadline != DeadlineTable.Never;
        byte stripe = layer.Table.NearStripe;
        BudgetScope scope = cancellationToken.CanBeCanceled
            ? new LinkedScope(layer, stripe, marker, start, deadline, own, cancellationToken, default)
            : new BudgetScope(layer, stripe, marker, start, deadline, own);
        scope.Watch();
        return scope;
    }

    private static BudgetScope OpenInside(BudgetLayer layer, BudgetScope outer, long start, long deadline, CancellationToken cancellationToken)
    {
        if (outer._layer is null)
        {
            return OpenAlone(layer, outer, start, deadline, cancellationToken);
        }

        // Timestamps of two clocks are never compared: a scope on another clock takes over what is left, and watches it itself.
        DeadlineTable table = layer.Table;
        bool sameClock = ReferenceEquals(outer.Table, table);
        long outerDeadline = sameClock || !outer.HasDeadline ? outer.Deadline : DeadlineTable.After(start, table.ToUnits(outer.Remaining));
        bool own = deadline < outerDeadline;
        bool callerIsOuter = IsHandedOn(outer, cancellationToken);
        if (callerIsOuter)
        {
            cancellationToken = default;
        }

        if (!own && sameClock && !cancellationToken.CanBeCanceled && !layer.NeedsOwnToken)
        {
            BudgetScope source = outer._source ?? outer;
            if (source.TryHold())
            {
                return new BudgetScope(layer, source._stripe, outer, start, outerDeadline, own, source) { _callerIsOuter = callerIsOuter };
            }

            // The outer scope ended between the look and the hold.
            BudgetScope? next = NearestLive(outer);
            return next is null
                ? OpenAlone(layer, next, start, deadline, cancellationToken)
                : OpenInside(layer, next, start, deadline, cancellationToken);
        }

        // What has no deadline but the one that this scope has too, and no caller, can be left alone.
        bool follows = !sameClock || (outer._source ?? outer) is LinkedScope;
        deadline = Math.Min(deadline, outerDeadline);
        byte stripe = layer.Table.NearStripe;
        BudgetScope scope = follows || cancellationToken.CanBeCanceled
            ? new LinkedScope(layer, stripe, outer, start, deadline, own, cancellationToken, follows ? outer.Token : default)
            : new BudgetScope(layer, stripe, outer, start, deadline, own);
        scope._callerIsOuter = callerIsOuter;
        scope.Watch();
        return scope;
    }

    /// <summary>Whether the token is that of the scope or of one around it, whose firing reaches what is inside anyhow: not past one that has ended.</summary>
    private static bool IsHandedOn(BudgetScope? scope, CancellationToken token)
    {
        for (; scope is { _layer: not null, _ended: false }; scope = scope._outer)
        {
            if (scope.Token == token)
            {
                return true;
            }
        }

        return false;
    }

    private void Watch()
    {
        if (StartedExpired)
        {
            DeadlineTable.Fire(this);
        }
        else if (HasDeadline)
        {
            Table.Add(this, _stripe);
        }
    }

    private bool TryHold()
    {
        DeadlineTable.Stripe stripe = Stripe;
        stripe.Enter();
        bool held = _holders > 0;
        if (held)
        {
            _holders++;
        }

        stripe.Exit();
        return held;
    }

    /// <summary>The scope, or the nearest around it that has not ended; or the marker of a suppression, which hides what is around it even when it was left.</summary>
    private static BudgetScope? NearestLive(BudgetScope? scope)
    {
        while (scope is { _ended: true, _layer: not null })
        {
            scope = scope._outer;
        }

        return scope;
    }

    /// <summary>A scope that the caller's token or the outer scope's fires too.</summary>
    private sealed class LinkedScope : BudgetScope
    {
        private CancellationTokenRegistration _byCaller;
        private CancellationTokenRegistration _byOuter;

        /// <summary>Remembered, for the registration is gone when the token had fired before, or the scope has ended.</summary>
        private volatile bool _callerCancelled;

        public LinkedScope(
            BudgetLayer layer, byte stripe, BudgetScope? outer, long start, long deadline, bool ownDeadline,
            CancellationToken callerToken, CancellationToken outerToken)
            : base(layer, stripe, outer, start, deadline, ownDeadline)
        {
            // The caller's cancellation runs the callbacks where it is called, as a linked source does. An outer scope fires many, and none may hold up the next.
            _byCaller = callerToken.UnsafeRegister(static scope => ((LinkedScope)scope!).CancelByCaller(), this);
            _byOuter = outerToken.UnsafeRegister(static scope => DeadlineTable.Fire((BudgetScope)scope!), this);
        }

        /// <summary>Read without the lock: while the scope is being unlinked it may say either.</summary>
        public bool IsCallerCancelled => _callerCancelled || _byCaller.Token.IsCancellationRequested;

        /// <summary>Does not wait for a callback that is just running: the scope is not used again. Forgets the source, which may be large and live long.</summary>
        public void UnlinkCaller()
        {
            _callerCancelled |= _byCaller.Token.IsCancellationRequested;
            _byCaller.Unregister();
            _byCaller = default;
        }

        /// <summary>Later than the caller, when an inner scope still hands on this one's token: it is inside the outer scope all the same.</summary>
        public void UnlinkOuter()
        {
            _byOuter.Unregister();
            _byOuter = default;
        }

        private void CancelByCaller()
        {
            _callerCancelled = true;
            Cancel();
        }
    }
}
