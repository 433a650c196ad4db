namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// Who was charged what: the table in force, and the clock. Admissions read the coarse clock; exact windows, and a refusal that is due within the coarse clock's
/// staleness, the precise one.
/// </summary>
internal sealed class Ledger
{
    private readonly Lock[] _locks;
    private KeyTable _table;

    public Ledger(LimiterSettings settings, TimeProvider timeProvider)
    {
        Clock = new Clock(timeProvider);
        _locks = [.. Enumerable.Range(0, settings.Capacity > 0 ? 256 : 1).Select(_ => new Lock())];
        _table = settings.MakeTable(_locks, Clock);
    }

    public Clock Clock { get; }

    /// <summary>Whether the limits can be those of a key.</summary>
    public bool Knows(IReadOnlyList<RateLimit> limits) => Volatile.Read(ref _table).PlanOf(limits) is not null;

    public bool TryCharge(ulong key, IReadOnlyList<RateLimit>? limits, int permits, out RateLimitDecision decision)
    {
        // Most calls end here; the loop below is for the others.
        KeyTable table = Volatile.Read(ref _table);
        Plan plan = limits is null ? table.Default : PlanOf(table, limits);
        if (!plan.IsPrecise)
        {
            Charge charge = table.TryCharge(key, plan, Clock.Coarse, permits, out decision);
            if (charge == Charge.Admitted)
            {
                return true;
            }

            if (charge == Charge.Refused && !decision.IsDueWithin(Clock.Staleness))
            {
                return false;
            }
        }

        return TryChargePrecisely(key, limits, permits, out decision);
    }

    private bool TryChargePrecisely(ulong key, IReadOnlyList<RateLimit>? limits, int permits, out RateLimitDecision decision)
    {
        for (SpinWait spin = default; ; spin.SpinOnce())
        {
            KeyTable table = Volatile.Read(ref _table);
            Charge charge = table.TryCharge(key, PlanOf(table, limits), Clock.Precise, permits, out decision);
            if (charge != Charge.Lost)
            {
                return charge == Charge.Admitted;
            }
        }
    }

    /// <summary>Charges or takes back the difference between what the decision charged and what it should have.</summary>
    public void Settle(in RateLimitDecision decision, int actual)
    {
        int difference = actual - decision.Charged;
        if (difference == 0 || decision.IsShadowRefusal || decision.Source is not Plan source)
        {
            return;
        }

        ulong key = decision.Key & KeyTable.KeyMask;
        SpinWait spin = default;
        while (true)
        {
            KeyTable table = Volatile.Read(ref _table);
            Plan plan = source.Id == 0 ? table.Default : PlanOf(table, source.Limits);
            if (difference > 0 ? table.TryOwe(key, plan, Clock.Precise, difference) : table.TryRefund(key, Clock.Precise, -difference, decision))
            {
                return;
            }

            spin.SpinOnce();
        }
    }

    /// <summary>In how long the permits fit behind others that wait; <see cref="Timeout.InfiniteTimeSpan"/>: never.</summary>
    public TimeSpan DueAfter(ulong key, IReadOnlyList<RateLimit>? limits, int permits, long ahead)
    {
        KeyTable table = Volatile.Read(ref _table);
        long now = Clock.Precise, at = table.AdmitsAt(key, PlanOf(table, limits), now, permits, ahead);
        return at == LimitRule.Never ? Timeout.InfiniteTimeSpan : new TimeSpan(Math.Max(0, at - now));
    }

    /// <summary>The instant at which the key's state became, or becomes, as if never used.</summary>
    public long DrainedAt(ulong key, long instant)
    {
        SpinWait spin = default;
        while (true)
        {
            long at = Volatile.Read(ref _table).DrainedAt(key, instant);
            if (at != LimitRule.Never)
            {
                return at;
            }

            spin.SpinOnce();
        }
    }

    /// <summary>Goes on with other limits; what was charged stays charged. Callers wait for as long as it takes to copy the table.</summary>
    public void Update(LimiterSettings settings)
    {
        KeyTable table = settings.MakeTable(_locks, Clock);
        foreach (Lock one in _locks)
        {
            one.Enter();
        }

        try
        {
            KeyTable old = _table;
            old.MoveTo(table, Clock.Precise);
            Volatile.Write(ref _table, table);
            old.Forget();
        }
        finally
        {
            foreach (Lock one in _locks)
            {
                one.Exit();
            }
        }
    }

    private static Plan PlanOf(KeyTable table, IReadOnlyList<RateLimit>? limits) => limits is null ? table.Default : table.PlanOf(limits) ?? table.Default;
}
