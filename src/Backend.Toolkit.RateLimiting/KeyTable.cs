using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// The state of many keys in a fixed number of slots of 16 bytes: fingerprint and word. Four slots are a set, one cache line; a key may be in either of two sets or
/// in one of the few overflow sets. A key that has drained equals a key never seen, so its slot is free without loss. Finding is lock-free; a new key takes one
/// of the ledger's locks. The low eight bits of a fingerprint are the number of the plan. Protocol: DESIGN.md, "Keyed table".
/// </summary>
internal sealed class KeyTable
{
    /// <summary>The key of all keys without a slot, and of a limiter without keys.</summary>
    public const ulong Shared = 1 << 8;

    public const ulong KeyMask = ~0xFFUL;

    private const int SetSize = 4;
    private const int OverflowShare = 16;
    private const int MostPlans = 255;

    private readonly string _name;
    private readonly Func<IReadOnlyList<RateLimit>, byte, Plan?> _makePlan;
    private readonly WhenFull _whenFull;
    private readonly Lock[] _locks;
    private readonly ConcurrentDictionary<IReadOnlyList<RateLimit>, Plan> _planOf = new(LimitsComparer.Instance);
    private readonly Plan?[] _plans = new Plan?[MostPlans];
    private readonly Entry[] _slots;
    private readonly long[][] _further;
    private readonly uint[] _log;
    private long[]? _refunded;
    private long _refundedByAll;
    private readonly int _firstSlot;
    private readonly int _logLength;
    private readonly int _sharedSlot;
    private readonly uint _sets;
    private readonly uint _overflowSets;
    private bool _isMoved;

    /// <param name="name">The name of the limiter, for the metric.</param>
    /// <param name="capacity">Slots, without the overflow sets; 0: only <see cref="Shared"/>.</param>
    /// <param name="whenFull">What a new key gets that finds no slot.</param>
    /// <param name="limits">The limits of keys without any of their own.</param>
    /// <param name="makePlan">Makes a plan of limits; null when they are not valid.</param>
    /// <param name="locks">Against two slots for one key.</param>
    public KeyTable(string name, int capacity, WhenFull whenFull, IReadOnlyList<RateLimit> limits, Func<IReadOnlyList<RateLimit>, byte, Plan?> makePlan, Lock[] locks)
    {
        (_name, _whenFull, _makePlan, _locks) = (name, whenFull, makePlan, locks);
        Default = makePlan(limits, 0)!;
        _plans[0] = Default;
        _planOf[limits] = Default;
        _sets = (uint)((capacity + SetSize - 1) / SetSize);
        _overflowSets = (_sets + OverflowShare - 1) / OverflowShare;
        _sharedSlot = (int)(_sets + _overflowSets) * SetSize;

        // Pinned, so that a set stays on one cache line.
        bool isLarge = _sets > 1;
        _slots = GC.AllocateArray<Entry>(_sharedSlot + 1 + (isLarge ? SetSize - 1 : 0), pinned: isLarge);
        _firstSlot = isLarge ? FirstOnALine(_slots) : 0;
        _further = [.. Enumerable.Range(1, limits.Count - 1).Select(_ => new long[_sharedSlot + 1])];
        _logLength = Default.LogLength;
        _log = new uint[(long)_logLength * (_sharedSlot + 1)];
        At(_sharedSlot).Fingerprint = Shared;
    }

    /// <summary>The plan of keys without limits of their own.</summary>
    public Plan Default { get; }

    public ref Entry At(int slot) => ref _slots[_firstSlot + slot];

    public ref long FurtherWordOf(int slot, int window) => ref _further[window - 1][slot];

    public long RefundedOf(int slot) => Volatile.Read(ref _refunded) is { } refunded ? Volatile.Read(ref refunded[slot]) : 0;

    /// <summary>Permits that were given back; before anybody settles, nobody asks.</summary>
    public void CountRefund(int slot, int permits)
    {
        if (Volatile.Read(ref _refunded) is { } refunded)
        {
            Interlocked.Add(ref _refundedByAll, permits);
            Interlocked.Add(ref refunded[slot], permits);
        }
    }

    public Span<uint> LogOf(int slot) => _log.AsSpan(slot * _logLength, _logLength);

    /// <summary>The plan of these limits; null when they are not valid or do not fit this table: too many, longer logs than the default's, or the 256th different ones.</summary>
    public Plan? PlanOf(IReadOnlyList<RateLimit> limits) => _planOf.TryGetValue(limits, out Plan? plan) ? plan : AddPlan(limits);

    public Charge TryCharge(ulong key, Plan plan, long instant, int permits, out RateLimitDecision decision)
    {
        int index = Find(key, out ulong fingerprint);
        if (index >= 0 && (byte)fingerprint == plan.Id)
        {
            return plan.TryCharge(new Slot(this, index, fingerprint), instant, permits, out decision);
        }

        if (index >= 0)
        {
            decision = default;
            ChangePlan(key, plan, instant);
            return Charge.Lost;
        }

        return permits == 0 || permits > plan.Most ? Look(key, plan, instant, permits, out decision) : Claim(key, plan, instant, permits, out decision);
    }

    /// <summary>False: look the key up again.</summary>
    public bool TryOwe(ulong key, Plan plan, long instant, int permits)
    {
        // Under the plan that the key is kept under; the one given is for a key that has drained.
        int index = Find(key, out ulong fingerprint);
        return index < 0
            ? Claim(key, plan, instant, permits, out _, isDebt: true) != Charge.Lost
            : _plans[(byte)fingerprint]!.TryOwe(new Slot(this, index, fingerprint), instant, permits);
    }

    /// <summary>False: look the key up again.</summary>
    public bool TryRefund(ulong key, long instant, int permits, in RateLimitDecision decision)
    {
        // One at a time, and counted after the fact: who charges and reads the count before counts one too many at worst.
        lock (LockOf(key))
        {
            int index = Find(key, out ulong fingerprint);
            if (_isMoved)
            {
                return false;
            }

            if (index >= 0)
            {
                if (Volatile.Read(ref _refunded) is null)
                {
                    Interlocked.CompareExchange(ref _refunded, new long[_sharedSlot + 1], null);
                }

                if (!_plans[(byte)fingerprint]!.TryRefund(new Slot(this, index, fingerprint), instant, permits, decision))
                {
                    return false;
                }

                CountRefund(index, permits);
            }

            return true;
        }
    }

    public long AdmitsAt(ulong key, Plan plan, long instant, int permits, long ahead)
    {
        int index = Find(key, out ulong fingerprint);
        return permits > plan.Most ? LimitRule.Never
            : index < 0 ? AdmitsWithoutSlotAt(key, instant, permits, ahead)
            : _plans[(byte)fingerprint]!.AdmitsAt(new Slot(this, index, fingerprint), instant, permits, ahead);
    }

    public long DrainedAt(ulong key, long instant)
    {
        int index = Find(key, out ulong fingerprint);
        return index < 0 ? 0 : _plans[(byte)fingerprint]!.DrainedAt(new Slot(this, index, fingerprint), instant);
    }

    /// <summary>
    /// Gives all that is live to another table. The caller holds all locks, so no key is claimed meanwhile; who finds a frozen slot looks again until the other table
    /// is published and <see cref="Forget"/> was called here.
    /// </summary>
    public void MoveTo(KeyTable other, long instant)
    {
        _isMoved = true;
        uint[] log = new uint[_logLength];
        for (int index = 0; index <= _sharedSlot; index++)
        {
            ulong fingerprint = Volatile.Read(ref At(index).Fingerprint);
            if (fingerprint == 0)
            {
                continue;
            }

            var slot = new Slot(this, index, fingerprint);
            Plan from = _plans[(byte)fingerprint]!;
            Words held;
            for (SpinWait spin = default; !from.TryFreeze(slot, instant, evenIfLive: true, out held);)
            {
                spin.SpinOnce();
            }

            slot.Log.CopyTo(log);
            Plan plan = from.Id == 0 ? other.Default : other.PlanOf(from.Limits) ?? other.Default;
            other.Take(fingerprint & KeyMask, _sets == other._sets ? index : -1, plan, instant, from, held, log);
        }
    }

    /// <summary>After the other table was published: who still is here finds nothing.</summary>
    public void Forget()
    {
        for (int index = 0; index <= _sharedSlot; index++)
        {
            Volatile.Write(ref At(index).Fingerprint, 0);
        }
    }

    private Plan? AddPlan(IReadOnlyList<RateLimit> limits)
    {
        lock (_plans)
        {
            if (_planOf.TryGetValue(limits, out Plan? plan))
            {
                return plan;
            }

            int id = Array.IndexOf(_plans, null);
            if (id < 0 || limits.Count > Default.Limits.Count)
            {
                return null;
            }

            RateLimit[] copy = [.. limits];
            plan = _makePlan(copy, (byte)id);
            if (plan is null || plan.LogLength > _logLength)
            {
                return null;
            }

            _plans[id] = plan;
            return _planOf[copy] = plan;
        }
    }

    private int Find(ulong key, out ulong fingerprint)
    {
        if (key == Shared)
        {
            fingerprint = Volatile.Read(ref At(_sharedSlot).Fingerprint);
            return _isMoved && fingerprint == 0 ? -1 : _sharedSlot;
        }

        int slot = FindInSet(FirstSet(key), key, out fingerprint);
        if (slot < 0)
        {
            slot = FindInSet(SecondSet(key), key, out fingerprint);
        }

        return slot >= 0 ? slot : FindInSet(OverflowSet(key), key, out fingerprint);
    }

    private int FindInSet(int set, ulong key, out ulong fingerprint)
    {
        for (int slot = set; slot < set + SetSize; slot++)
        {
            fingerprint = Volatile.Read(ref At(slot).Fingerprint);
            if ((fingerprint & KeyMask) == key)
            {
                return slot;
            }
        }

        fingerprint = 0;
        return -1;
    }

    /// <summary>A key that is not here is as one never used; while the table is being moved it may be elsewhere.</summary>
    private Charge Look(ulong key, Plan plan, long instant, int permits, out RateLimitDecision decision)
    {
        if (permits == 0 && RoomAt(key, instant) > instant)
        {
            return Overflow(key, plan, instant, permits, out decision);
        }

        decision = plan.Unused(key, instant, permits);
        return Volatile.Read(ref _isMoved) ? Charge.Lost : decision.IsAdmitted ? Charge.Admitted : Charge.Refused;
    }

    private Charge Claim(ulong key, Plan plan, long instant, int permits, out RateLimitDecision decision, bool isDebt = false)
    {
        decision = default;
        lock (LockOf(key))
        {
            if (_isMoved || Find(key, out _) >= 0)
            {
                return Charge.Lost;
            }

            if (TryTake(key, instant, out Slot slot) || (_whenFull == WhenFull.EvictClosestToDrained && TryEvict(key, instant, out slot)))
            {
                // What this key was given back in another slot counts here, too: at most what all were.
                if (Volatile.Read(ref _refunded) is { } refunded)
                {
                    Volatile.Write(ref refunded[slot.Index], Volatile.Read(ref _refundedByAll));
                }

                plan.Start(slot, key | plan.Id, instant, permits, out decision);
                return Charge.Admitted;
            }

            if (_whenFull == WhenFull.EvictClosestToDrained)
            {
                return Charge.Lost;
            }
        }

        return !isDebt || _whenFull == WhenFull.Deny ? Overflow(key, plan, instant, permits, out decision)
            : Default.TryOwe(SharedSlot, instant, permits) ? Charge.Admitted : Charge.Lost;
    }

    /// <summary>What a key gets for which there is no room: a refusal, or a share of one limit.</summary>
    private Charge Overflow(ulong key, Plan plan, long instant, int permits, out RateLimitDecision decision)
    {
        if (_whenFull == WhenFull.SharedOverflow)
        {
            return Default.TryCharge(SharedSlot, instant, permits, out decision);
        }

        decision = new RateLimitDecision(false, permits, plan, key, instant, 0, new TimeSpan(Math.Max(1, RoomAt(key, instant) - instant)), TimeSpan.Zero);
        return Charge.Refused;
    }

    private long AdmitsWithoutSlotAt(ulong key, long instant, int permits, long ahead)
    {
        long room = RoomAt(key, instant);
        return room > instant && _whenFull == WhenFull.SharedOverflow ? Math.Min(room, Default.AdmitsAt(SharedSlot, instant, permits, ahead)) : room;
    }

    /// <summary>When a key without a slot can have one.</summary>
    private long RoomAt(ulong key, long instant) =>
        key == Shared || _whenFull == WhenFull.EvictClosestToDrained || ClosestToDrained(key, instant, out _) is var at && at == LimitRule.Never ? instant : Math.Max(at, instant);

    /// <summary>Freezes a slot that is free or whose key has drained, in the emptier of the two sets, else in the overflow set.</summary>
    private bool TryTake(ulong key, long instant, out Slot slot)
    {
        int first = FirstSet(key), second = SecondSet(key);
        if (CountDrained(second, instant) > CountDrained(first, instant))
        {
            (first, second) = (second, first);
        }

        return TryTakeIn(first, instant, out slot) || TryTakeIn(second, instant, out slot) || TryTakeIn(OverflowSet(key), instant, out slot);
    }

    private bool TryTakeIn(int set, long instant, out Slot slot)
    {
        for (int index = set; index < set + SetSize; index++)
        {
            slot = SlotAt(index, out Plan plan);
            if (plan.TryFreeze(slot, instant, evenIfLive: false, out _))
            {
                return true;
            }
        }

        slot = default;
        return false;
    }

    private int CountDrained(int set, long instant)
    {
        int count = 0;
        for (int index = set; index < set + SetSize; index++)
        {
            Slot slot = SlotAt(index, out Plan plan);
            count += plan.DrainedAt(slot, instant) <= instant ? 1 : 0;
        }

        return count;
    }

    private bool TryEvict(ulong key, long instant, out Slot slot)
    {
        long drainedAt = ClosestToDrained(key, instant, out int index);
        slot = SlotAt(index, out Plan plan);
        if (drainedAt == LimitRule.Never || !plan.TryFreeze(slot, instant, evenIfLive: true, out _))
        {
            return false;
        }

        Telemetry.Evicted(_name);
        return true;
    }

    private long ClosestToDrained(ulong key, long instant, out int closest)
    {
        closest = FirstSet(key);
        long least = LimitRule.Never;
        foreach (int set in (ReadOnlySpan<int>)[FirstSet(key), SecondSet(key), OverflowSet(key)])
        {
            for (int index = set; index < set + SetSize; index++)
            {
                Slot slot = SlotAt(index, out Plan plan);
                long at = plan.DrainedAt(slot, instant);
                if (at < least)
                {
                    (least, closest) = (at, index);
                }
            }
        }

        return least;
    }

    private void ChangePlan(ulong key, Plan plan, long instant)
    {
        lock (LockOf(key))
        {
            int index = Find(key, out ulong fingerprint);
            if (_isMoved || index < 0 || (byte)fingerprint == plan.Id)
            {
                return;
            }

            var slot = new Slot(this, index, fingerprint);
            Plan from = _plans[(byte)fingerprint]!;
            if (from.TryFreeze(slot, instant, evenIfLive: true, out Words held))
            {
                uint[] log = slot.Log.ToArray();
                plan.Start(slot, key | plan.Id, instant, from, held, log);
            }
        }
    }

    /// <summary>Takes in what a key holds in another table: in the same slot when there is one, since a full table may have room in no other order. When this one is smaller and full, the key closest to drained is forgotten.</summary>
    private void Take(ulong key, int index, Plan plan, long instant, Plan from, in Words held, ReadOnlySpan<uint> log)
    {
        Slot slot;
        if (key == Shared || index >= 0)
        {
            slot = SlotAt(key == Shared ? _sharedSlot : index, out _);
            Default.TryFreeze(slot, instant, evenIfLive: true, out _);
        }
        else if (!TryTake(key, instant, out slot) && !TryEvict(key, instant, out slot))
        {
            return;
        }

        plan.Start(slot, key | plan.Id, instant, from, held, log);
    }

    private Slot SharedSlot => new(this, _sharedSlot, Volatile.Read(ref At(_sharedSlot).Fingerprint));

    private Slot SlotAt(int index, out Plan plan)
    {
        ulong fingerprint = Volatile.Read(ref At(index).Fingerprint);
        plan = _plans[(byte)fingerprint]!;
        return new Slot(this, index, fingerprint);
    }

    private Lock LockOf(ulong key) => _locks[(uint)(key >> 8) % (uint)_locks.Length];

    private int FirstSet(ulong key) => (int)(((key >> 32) * _sets) >> 32) * SetSize;

    private int SecondSet(ulong key)
    {
        ulong first = ((key >> 32) * _sets) >> 32, second = ((key & uint.MaxValue) * _sets) >> 32;
        return (int)(first == second && _sets > 1 ? (second + 1) % _sets : second) * SetSize;
    }

    private int OverflowSet(ulong key) => (int)(_sets + (((key >> 16) & uint.MaxValue) * _overflowSets >> 32)) * SetSize;

    private static int FirstOnALine(Entry[] slots) =>
        (int)((64 - Marshal.UnsafeAddrOfPinnedArrayElement(slots, 0) % 64) % 64 / Unsafe.SizeOf<Entry>());

    /// <summary>One slot.</summary>
    internal struct Entry
    {
        public ulong Fingerprint;
        public long Word;
    }
}
