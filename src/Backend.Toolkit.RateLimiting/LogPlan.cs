using System.Runtime.InteropServices;

namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// Exact sliding windows: a ring of the instants of the last admissions for each limit. An admission needs the entry that it would push out to be a window
/// old, so no window of that length, wherever it starts, holds more than the limit.
/// An instant is 32 bits: a quantum is window ÷ 2^29, at least one tick, rounded up when recorded. The word is a spin lock: bit 0 locked, bit 1 debt has pushed out
/// entries. The log of a slot: the newest instant (64 bits), then for each limit head and count (16 bits each) and its ring.
/// </summary>
internal sealed class LogPlan : Plan
{
    public const int LargestLimit = 10_000;

    private const long Locked = 1;
    private const long InDebt = 2;
    private const int NewestLength = 2;

    private readonly Window[] _windows;

    public LogPlan(IReadOnlyList<RateLimit> limits, byte id)
        : base(limits, id)
    {
        int start = NewestLength;
        _windows = new Window[limits.Count];
        for (int i = 0; i < _windows.Length; i++)
        {
            _windows[i] = new Window((int)limits[i].EffectiveBurst, limits[i].Period.Ticks, start);
            start += 1 + _windows[i].Limit;
        }

        IsPrecise = true;
        LogLength = start;
        Most = _windows.Min(window => window.Limit);
    }

    public override long Most { get; }

    public override int LogLength { get; }

    public override Charge TryCharge(in Slot slot, long instant, int permits, out RateLimitDecision decision)
    {
        decision = default;
        if (!TryLock(slot, out long word))
        {
            return Charge.Lost;
        }

        Span<uint> log = slot.Log;
        long at = Enter(log, instant);
        bool fits = Fits(log, at, Math.Max(1, permits));
        if (fits)
        {
            Record(log, at, permits);
        }

        decision = Decide(log, fits, permits, slot.Fingerprint, at, instant);
        Unlock(slot, log, word);
        return fits ? Charge.Admitted : Charge.Refused;
    }

    public override RateLimitDecision Unused(ulong key, long instant, int permits)
    {
        bool fits = permits <= Most;
        return new RateLimitDecision(fits, permits, this, key, instant, Most, fits ? TimeSpan.Zero : Timeout.InfiniteTimeSpan, TimeSpan.Zero);
    }

    public override bool TryOwe(in Slot slot, long instant, long permits)
    {
        if (!TryLock(slot, out long word))
        {
            return false;
        }

        Span<uint> log = slot.Log;
        long at = Enter(log, instant);
        bool fits = Fits(log, at, permits);
        Record(log, at, permits);
        Unlock(slot, log, fits ? word : word | InDebt);
        return true;
    }

    public override bool TryRefund(in Slot slot, long instant, int permits, in RateLimitDecision decision)
    {
        if (decision.Source != this)
        {
            return true;
        }

        if (!TryLock(slot, out long word))
        {
            return false;
        }

        // What debt has pushed out nobody knows: until the log is empty, to take entries out might admit too many.
        Span<uint> log = slot.Log;
        Enter(log, instant);
        for (int i = 0; i < _windows.Length && (word & InDebt) == 0; i++)
        {
            _windows[i].Remove(log, decision.Instant, permits);
        }

        Unlock(slot, log, word);
        return true;
    }

    public override long AdmitsAt(in Slot slot, long instant, int permits, long ahead)
    {
        if (!TryLock(slot, out long word))
        {
            return instant;
        }

        Span<uint> log = slot.Log;
        long at = Enter(log, instant);
        foreach (Window window in _windows)
        {
            (long full, long last) = Math.DivRem(Math.Max(1, permits) + ahead - 1, window.Limit);
            at = Math.Max(at, window.AdmitsAt(log, at, (int)last + 1) + full * window.Ticks);
        }

        Unlock(slot, log, word);
        return permits > Most ? LimitRule.Never : at;
    }

    public override long DrainedAt(in Slot slot, long instant)
    {
        // A look without the lock would be at a log in motion; a slot that somebody is charging is live.
        if (!TryLockOnce(slot, out long word))
        {
            return LimitRule.Never;
        }

        long at = DrainedAt(slot.Log);
        Unlock(slot, slot.Log, word);
        return at;
    }

    public override bool TryFreeze(in Slot slot, long instant, bool evenIfLive, out Words held)
    {
        held = default;
        if (!TryLockOnce(slot, out long word))
        {
            return false;
        }

        if (!evenIfLive && DrainedAt(slot.Log) > instant)
        {
            Volatile.Write(ref slot.Word(0), word);
            return false;
        }

        held[0] = word;
        Volatile.Write(ref slot.Word(0), Frozen);
        return true;
    }

    public override void Start(in Slot slot, ulong fingerprint, long instant, int permits, out RateLimitDecision decision)
    {
        slot.Rename(fingerprint);
        Span<uint> log = slot.Log[..LogLength];
        log.Clear();
        long at = Enter(log, instant);
        bool fits = Fits(log, at, permits);
        Record(log, at, permits);
        decision = Decide(log, true, permits, fingerprint, at, instant);
        Volatile.Write(ref slot.Word(0), fits ? 0 : InDebt);
    }

    public override void Start(in Slot slot, ulong fingerprint, long instant, Plan from, in Words held, ReadOnlySpan<uint> log)
    {
        slot.Rename(fingerprint);
        Span<uint> own = slot.Log[..LogLength];
        own.Clear();
        long at = instant;
        var other = from as LogPlan;
        if (other is not null)
        {
            at = Math.Max(instant, Newest(log));
        }

        Newest(own) = at;
        for (int i = 0; i < _windows.Length; i++)
        {
            int before = Predecessor(i, from);
            if (before >= 0 && other is not null)
            {
                _windows[i].CopyFrom(own, other._windows[before], log, Newest(log));
            }
            else if (before >= 0)
            {
                _windows[i].Push(own, at, from.Used(before, instant, held, log));
            }
        }

        Unlock(slot, own, InDebt);
    }

    public override long Used(int limit, long instant, in Words held, ReadOnlySpan<uint> log) => _windows[limit].Used(log, Math.Max(instant, Newest(log)));

    /// <summary>False: the slot is not the key's any more, or is being moved.</summary>
    private static bool TryLock(in Slot slot, out long word)
    {
        SpinWait spin = default;
        while (!TryLockOnce(slot, out word))
        {
            if (word == Frozen || !slot.IsStillOurs)
            {
                return false;
            }

            spin.SpinOnce();
        }

        return true;
    }

    private static bool TryLockOnce(in Slot slot, out long word)
    {
        word = Volatile.Read(ref slot.Word(0));
        if (word == Frozen || (word & Locked) != 0 || Interlocked.CompareExchange(ref slot.Word(0), word | Locked, word) != word)
        {
            return false;
        }

        // The lock may have been let go by another key, with the same word, since the slot was found.
        if (slot.IsStillOurs)
        {
            return true;
        }

        Volatile.Write(ref slot.Word(0), word);
        return false;
    }

    private void Unlock(in Slot slot, ReadOnlySpan<uint> log, long word)
    {
        bool isEmpty = true;
        foreach (Window window in _windows)
        {
            isEmpty &= window.Count(log) == 0;
        }

        Volatile.Write(ref slot.Word(0), isEmpty ? 0 : word);
    }

    private static ref long Newest(Span<uint> log) => ref MemoryMarshal.Cast<uint, long>(log)[0];

    private static long Newest(ReadOnlySpan<uint> log) => MemoryMarshal.Cast<uint, long>(log)[0];

    /// <summary>Never before the newest entry, so that the rings stay in order; drops what a window no longer covers.</summary>
    private long Enter(Span<uint> log, long instant)
    {
        long newest = Newest(log);
        long at = Math.Max(instant, newest);
        foreach (Window window in _windows)
        {
            window.Drop(log, at, newest);
        }

        return at;
    }

    private bool Fits(ReadOnlySpan<uint> log, long at, long permits)
    {
        bool fits = true;
        foreach (Window window in _windows)
        {
            fits &= window.Used(log, at) + permits <= window.Limit;
        }

        return fits;
    }

    private void Record(Span<uint> log, long at, long permits)
    {
        if (permits == 0)
        {
            return;
        }

        Newest(log) = at;
        foreach (Window window in _windows)
        {
            window.Push(log, at, permits);
        }
    }

    private RateLimitDecision Decide(ReadOnlySpan<uint> log, bool fits, int permits, ulong fingerprint, long at, long instant)
    {
        long remaining = long.MaxValue, admits = at;
        foreach (Window window in _windows)
        {
            remaining = Math.Min(remaining, window.Limit - window.Used(log, at));
            admits = Math.Max(admits, window.AdmitsAt(log, at, Math.Max(1, permits)));
        }

        TimeSpan retryAfter = fits ? TimeSpan.Zero : permits > Most ? Timeout.InfiniteTimeSpan : new TimeSpan(admits - instant);
        return new RateLimitDecision(fits, permits, this, fingerprint, at, remaining, retryAfter, new TimeSpan(Math.Max(instant, DrainedAt(log)) - instant));
    }

    private long DrainedAt(ReadOnlySpan<uint> log)
    {
        long at = 0, now = Newest(log);
        foreach (Window window in _windows)
        {
            if (window.Used(log, now) > 0)
            {
                at = Math.Max(at, window.AdmitsAt(log, now, window.Limit));
            }
        }

        return at;
    }

    /// <summary>One ring within a slot's log.</summary>
    private sealed class Window
    {
        private readonly long _quantum;
        private readonly long _length;
        private readonly int _header;

        public Window(int limit, long ticks, int header)
        {
            (Limit, Ticks, _header) = (limit, ticks, header);
            _quantum = (ticks >> 29) + 1;
            _length = (ticks + _quantum - 1) / _quantum;
        }

        public int Limit { get; }

        public long Ticks { get; }

        public int Count(ReadOnlySpan<uint> log) => (int)(log[_header] & 0xffff);

        /// <summary>Entries that are not a window old; the instant is not before the newest.</summary>
        public int Used(ReadOnlySpan<uint> log, long at)
        {
            if (at - Newest(log) > 2 * Ticks)
            {
                return 0;
            }

            int count = Count(log), old = 0;
            while (old < count && ExpiresAt(log, old, at) <= at)
            {
                old++;
            }

            return count - old;
        }

        public void Drop(Span<uint> log, long at, long newest)
        {
            int count = Count(log), head = Head(log);
            if (count > 0 && at - newest > 2 * Ticks)
            {
                SetHeader(log, 0, 0);
                return;
            }

            int old = 0;
            while (old < count && ExpiresAt(log, old, at) <= at)
            {
                old++;
            }

            if (old > 0)
            {
                SetHeader(log, (head + old) % Limit, count - old);
            }
        }

        /// <summary>Pushes out the oldest when there is no room: debt. The newest as many as the limit say all there is to say.</summary>
        public void Push(Span<uint> log, long at, long permits)
        {
            uint entry = (uint)((at + _quantum - 1) / _quantum);
            int head = Head(log), count = Count(log), pushed = (int)Math.Min(permits, Limit);
            for (int i = 0; i < pushed; i++)
            {
                log[_header + 1 + (head + count + i) % Limit] = entry;
            }

            int excess = Math.Max(0, count + pushed - Limit);
            SetHeader(log, (head + excess) % Limit, count + pushed - excess);
        }

        public void Remove(Span<uint> log, long charged, int permits)
        {
            uint entry = (uint)((charged + _quantum - 1) / _quantum);
            int head = Head(log), count = Count(log), kept = 0;
            for (int i = 0; i < count; i++)
            {
                uint seen = log[_header + 1 + (head + i) % Limit];
                if (seen == entry && permits > 0)
                {
                    permits--;
                    continue;
                }

                log[_header + 1 + (head + kept++) % Limit] = seen;
            }

            SetHeader(log, head, kept);
        }

        /// <summary>When the permits (1 to the limit) fit.</summary>
        public long AdmitsAt(ReadOnlySpan<uint> log, long at, int permits)
        {
            int count = at - Newest(log) > 2 * Ticks ? 0 : Count(log);
            int mustExpire = count + permits - Limit;
            return mustExpire <= 0 || permits > Limit ? at : Math.Max(at, ExpiresAt(log, mustExpire - 1, at));
        }

        public void CopyFrom(Span<uint> log, Window other, ReadOnlySpan<uint> from, long newest)
        {
            int count = other.Count(from);
            for (int i = Math.Max(0, count - Limit); i < count; i++)
            {
                Push(log, other.RecordedAt(from, i, newest), 1);
            }
        }

        private int Head(ReadOnlySpan<uint> log) => (int)(log[_header] >> 16);

        private void SetHeader(Span<uint> log, int head, int count) => log[_header] = (uint)head << 16 | (uint)count;

        private long ExpiresAt(ReadOnlySpan<uint> log, int index, long at) => RecordedAt(log, index, at) + _length * _quantum;

        /// <summary>The entry nearest to the instant that ends in these 32 bits.</summary>
        private long RecordedAt(ReadOnlySpan<uint> log, int index, long at)
        {
            long now = at / _quantum;
            int age = (int)((uint)now - log[_header + 1 + (Head(log) + index) % Limit]);
            return (now - age) * _quantum;
        }
    }
}
