namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// Limits of one word each. Several are charged one after the other; when one refuses, those already charged are taken back. In between a concurrent call may be
/// refused, never admitted wrongly.
/// </summary>
internal sealed class WordPlan : Plan
{
    private readonly LimitRule[] _rules;
    private readonly LimitRule _first;
    private readonly Clock _clock;

    public WordPlan(IReadOnlyList<RateLimit> limits, byte id, LimitRule[] rules, Clock clock)
        : base(limits, id)
    {
        (_rules, _first, _clock) = (rules, rules[0], clock);
        Most = rules.Min(rule => rule.Most);
    }

    public override long Most { get; }

    public override int LogLength => 0;

    public override Charge TryCharge(in Slot slot, long instant, int permits, out RateLimitDecision decision)
    {
        if (_rules.Length > 1)
        {
            return TryChargeAll(slot, instant, permits, out decision);
        }

        ref long word = ref slot.FirstWord;
        while (true)
        {
            long refunded = slot.Refunded;
            long seen = Volatile.Read(ref word);
            if (!slot.IsStillOurs || seen == Frozen)
            {
                decision = default;
                return Charge.Lost;
            }

            bool fits = _first.TryCharge(seen, instant, Math.Max(permits, 1), out long after);
            if (!fits || permits == 0)
            {
                RateLimitDecision.Write(out decision, fits, permits, this, slot.Fingerprint, instant, seen, refunded);
                return fits ? Charge.Admitted : Charge.Refused;
            }

            if (Interlocked.CompareExchange(ref word, after, seen) == seen)
            {
                RateLimitDecision.Write(out decision, true, permits, this, slot.Fingerprint, instant, after, refunded);
                return Charge.Admitted;
            }
        }
    }

    public override RateLimitDecision Unused(ulong key, long instant, int permits) => new(permits <= Most, permits, this, key, instant, default(Words));

    public override bool TryOwe(in Slot slot, long instant, long permits)
    {
        for (int window = 0; window < _rules.Length; window++)
        {
            ref long word = ref slot.Word(window);
            while (true)
            {
                long seen = Volatile.Read(ref word);
                if (!slot.IsStillOurs || seen == Frozen)
                {
                    if (window > 0)
                    {
                        // Frozen only for a moment: the limits before this one owe already, so it goes on from here, unless the slot has gone.
                        if (slot.IsStillOurs)
                        {
                            Thread.Yield();
                            continue;
                        }

                        return true;
                    }

                    return false;
                }

                if (Interlocked.CompareExchange(ref word, _rules[window].Charge(seen, instant, permits), seen) == seen)
                {
                    break;
                }
            }
        }

        return true;
    }

    public override bool TryRefund(in Slot slot, long instant, int permits, in RateLimitDecision decision) =>
        decision.Source != this || TryRefund(slot, permits, decision.Words, _rules.Length, new PastCharge(decision.Permits, decision.Instant, 0, slot.Refunded - decision.Refunded));

    public override long AdmitsAt(in Slot slot, long instant, int permits, long ahead)
    {
        long at = instant;
        for (int window = 0; window < _rules.Length; window++)
        {
            long word = Volatile.Read(ref slot.Word(window));
            at = Math.Max(at, word == Frozen ? instant : _rules[window].AdmitsAt(word, instant, Math.Max(permits, 1), ahead));
        }

        return at;
    }

    public override long DrainedAt(in Slot slot, long instant)
    {
        long at = 0;
        for (int window = 0; window < _rules.Length; window++)
        {
            long word = Volatile.Read(ref slot.Word(window));
            at = word == Frozen ? LimitRule.Never : Math.Max(at, _rules[window].DrainedAt(word, instant));
        }

        return at;
    }

    public override bool TryFreeze(in Slot slot, long instant, bool evenIfLive, out Words held)
    {
        held = default;
        long first = Volatile.Read(ref slot.Word(0));
        if (first == Frozen || !slot.IsStillOurs || (!evenIfLive && !_first.IsDrained(first, instant))
            || Interlocked.CompareExchange(ref slot.Word(0), Frozen, first) != first)
        {
            return false;
        }

        held[0] = first;
        bool isDrained = true;
        for (int window = 1; window < _rules.Length; window++)
        {
            // A charge under way on this word came before the exchange, and is seen here, or fails.
            held[window] = Interlocked.Exchange(ref slot.Word(window), Frozen);
            isDrained &= _rules[window].IsDrained(held[window], instant);
        }

        if (isDrained || evenIfLive)
        {
            return true;
        }

        Thaw(slot, held);
        return false;
    }

    public override void Start(in Slot slot, ulong fingerprint, long instant, int permits, out RateLimitDecision decision)
    {
        var words = default(Words);
        for (int window = 0; window < _rules.Length; window++)
        {
            words[window] = _rules[window].Charge(0, instant, permits);
        }

        slot.Rename(fingerprint);
        Thaw(slot, words);
        decision = new RateLimitDecision(true, permits, this, fingerprint, instant, words, slot.Refunded);
    }

    public override void Start(in Slot slot, ulong fingerprint, long instant, Plan from, in Words held, ReadOnlySpan<uint> log)
    {
        var words = default(Words);
        for (int window = 0; window < _rules.Length; window++)
        {
            int before = Predecessor(window, from);
            words[window] = before < 0 ? 0
                : from is WordPlan other ? _rules[window].CarryOver(other._rules[before], held[before], instant)
                : _rules[window].Charge(0, instant, from.Used(before, instant, held, log));
        }

        slot.Rename(fingerprint);
        Thaw(slot, words);
    }

    public override long Used(int limit, long instant, in Words held, ReadOnlySpan<uint> log) => _rules[limit].Used(held[limit], instant);

    /// <summary>From the decision's words: the least, the latest.</summary>
    public long Remaining(in Words words, long instant)
    {
        long least = long.MaxValue;
        for (int window = 0; window < _rules.Length; window++)
        {
            least = Math.Min(least, _rules[window].Remaining(words[window], instant));
        }

        return least;
    }

    public bool Fits(in Words words, long instant, int permits)
    {
        bool fits = true;
        for (int window = 0; window < _rules.Length; window++)
        {
            fits &= _rules[window].TryCharge(words[window], instant, permits, out _);
        }

        return fits;
    }

    public long AdmitsAt(in Words words, long instant, int permits)
    {
        long at = instant;
        for (int window = 0; window < _rules.Length; window++)
        {
            at = Math.Max(at, _rules[window].AdmitsAt(words[window], instant, Math.Max(permits, 1)));
        }

        return at;
    }

    public long DrainedAt(in Words words, long instant)
    {
        long at = instant;
        for (int window = 0; window < _rules.Length; window++)
        {
            at = Math.Max(at, _rules[window].DrainedAt(words[window], instant));
        }

        return at;
    }

    private Charge TryChargeAll(in Slot slot, long instant, int permits, out RateLimitDecision decision)
    {
        long refunded = slot.Refunded;

        // Look at all first: a refusal that can be seen touches nothing.
        var words = default(Words);
        bool fit = true;
        for (int window = 0; window < _rules.Length; window++)
        {
            words[window] = Volatile.Read(ref slot.Word(window));
            fit &= words[window] != Frozen && _rules[window].TryCharge(words[window], instant, Math.Max(permits, 1), out _);
        }

        if (!slot.IsStillOurs || HoldsFrozen(words))
        {
            decision = default;
            return Charge.Lost;
        }

        for (int window = 0; window < _rules.Length && fit && permits > 0; window++)
        {
            long seen = words[window], after;
            while ((fit = _rules[window].TryCharge(seen, instant, permits, out after)) && Interlocked.CompareExchange(ref slot.Word(window), after, seen) != seen)
            {
                seen = Volatile.Read(ref slot.Word(window));
                if (!slot.IsStillOurs || seen == Frozen)
                {
                    TakeBack(slot, instant, permits, words, window, refunded);
                    decision = default;
                    return Charge.Lost;
                }
            }

            words[window] = fit ? after : seen;
            if (!fit)
            {
                TakeBack(slot, instant, permits, words, window, refunded);
            }
        }

        decision = new RateLimitDecision(fit, permits, this, slot.Fingerprint, instant, words, refunded);
        return fit ? Charge.Admitted : Charge.Refused;
    }

    private void TakeBack(in Slot slot, long instant, int permits, in Words afters, int windows, long refunded)
    {
        if (windows > 0)
        {
            TryRefund(slot, permits, afters, windows, new PastCharge(permits, instant, 0, slot.Refunded - refunded));
            slot.CountRefund(permits);
        }
    }

    private bool TryRefund(in Slot slot, int permits, in Words afters, int windows, in PastCharge charge)
    {
        for (int window = 0; window < windows; window++)
        {
            ref long word = ref slot.Word(window);
            while (true)
            {
                long seen = Volatile.Read(ref word);
                if (!slot.IsStillOurs)
                {
                    return window > 0;
                }

                if (seen == Frozen)
                {
                    // The one who froze it has not renamed it yet, and may give it back as it was.
                    Thread.Yield();
                    continue;
                }

                // The clock after the word: so no charge in it is newer, and nothing is given back that has drained by then.
                if (Interlocked.CompareExchange(ref word, _rules[window].Refund(seen, _clock.Precise, permits, charge with { After = afters[window] }), seen) == seen)
                {
                    break;
                }
            }
        }

        return true;
    }

    private bool HoldsFrozen(in Words words)
    {
        bool holds = false;
        for (int window = 0; window < _rules.Length; window++)
        {
            holds |= words[window] == Frozen;
        }

        return holds;
    }

    /// <summary>The first word last: it is the one that says that the slot is free.</summary>
    private void Thaw(in Slot slot, in Words words)
    {
        for (int window = _rules.Length - 1; window >= 0; window--)
        {
            Volatile.Write(ref slot.Word(window), words[window]);
        }
    }
}
