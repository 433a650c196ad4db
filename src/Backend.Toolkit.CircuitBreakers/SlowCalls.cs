using System.Runtime.CompilerServices;

namespace Backend.Toolkit.CircuitBreakers;

/// <summary>
/// How many calls are in flight, by when they started: cohorts an eighth of the slow-call duration wide. A cohort that ended a whole
/// duration ago is overdue: its calls are slow although none has completed. Entering and leaving are one compare-and-swap on the cohort's
/// word; cohorts move on under the circuit's lock, whenever time is looked at.
/// </summary>
/// <remarks>A word is 8 bits of the cohort's number and 24 bits of calls in flight, so a call never leaves a cohort that it did not enter.</remarks>
internal class SlowCalls(long now, CircuitSettings settings)
{
    public const int CohortsPerDuration = 8;

    private protected const int Cohorts = CohortsPerDuration + 1;
    private const int CountBits = 24;
    private const uint CountMask = (1u << CountBits) - 1;

    /// <summary>Numbers wrap at a multiple of both the number of cohorts and the range of their 8 bits.</summary>
    private const int NumberRange = Cohorts << 26;

    private long _cohortEnd = now + settings.CohortUnits;
    private int _cohort;
    private int _overdue;
    private InFlight _inFlight;

    /// <summary>Calls in flight for longer than the slow-call duration plus at most one cohort.</summary>
    public int Overdue => Volatile.Read(ref _overdue);

    /// <summary>Under the lock. When the youngest cohort is over.</summary>
    public long CohortEnd => _cohortEnd;

    /// <summary>True while calls are in flight; for eviction.</summary>
    public bool Any()
    {
        for (int i = 0; i < Cohorts; i++)
        {
            if ((Volatile.Read(ref Slot(i)) & CountMask) != 0)
            {
                return true;
            }
        }

        return Overdue > 0;
    }

    /// <returns>The cohort that the call is in until it leaves; -1 when it is not tracked (16 million calls in flight).</returns>
    public int Enter()
    {
        while (true)
        {
            int cohort = Volatile.Read(ref _cohort);
            ref uint slot = ref Slot(cohort);
            uint word = Interlocked.Increment(ref slot);
            if (Holds(word, cohort))
            {
                return cohort;
            }

            // The cohort has just moved on, or its count has run over: this was not the place.
            Interlocked.Decrement(ref slot);
            if ((word & CountMask) == 0)
            {
                return -1;
            }
        }
    }

    /// <returns>False when the cohort is overdue: then <see cref="LeaveOverdue"/> under the lock.</returns>
    public bool TryLeave(int cohort)
    {
        ref uint slot = ref Slot(cohort);
        while (true)
        {
            uint word = Volatile.Read(ref slot);
            if (IsOverdue(cohort) || !Holds(word, cohort))
            {
                return false;
            }

            if ((word & CountMask) == 0 || Interlocked.CompareExchange(ref slot, word - 1, word) == word)
            {
                return true;
            }
        }
    }

    /// <summary>Under the lock.</summary>
    public void LeaveOverdue()
    {
        if (_overdue > 0)
        {
            Volatile.Write(ref _overdue, _overdue - 1);
        }
    }

    /// <summary>Under the lock. Moves on to the cohort of <paramref name="now"/>; what falls out of the ring is overdue.</summary>
    public void Advance(long now, CircuitSettings settings)
    {
        if (settings.SlowUnits == 0 || now < _cohortEnd)
        {
            return;
        }

        long steps = 1 + (now - _cohortEnd) / settings.CohortUnits;
        int next = (int)((_cohort + steps) % NumberRange);
        for (long step = Math.Max(1, steps - Cohorts + 1); step <= steps; step++)
        {
            int cohort = (int)((_cohort + step) % NumberRange);
            uint old = Interlocked.Exchange(ref Slot(cohort), Empty(cohort));
            Volatile.Write(ref _overdue, _overdue + (int)(old & CountMask));
        }

        Volatile.Write(ref _cohort, next);
        _cohortEnd += steps * settings.CohortUnits;
    }

    private static uint Empty(int cohort) => (uint)(byte)cohort << CountBits;

    private static bool Holds(uint word, int cohort) => word >> CountBits == (byte)cohort;

    private protected virtual ref uint Slot(int cohort) => ref _inFlight[(int)((uint)cohort % Cohorts)];

    private bool IsOverdue(int cohort)
    {
        int age = Volatile.Read(ref _cohort) - cohort;
        return (uint)age >= Cohorts && (uint)(age + NumberRange) >= Cohorts;
    }

    [InlineArray(Cohorts)]
    private struct InFlight
    {
        private uint _word;
    }
}

/// <summary>Keeps the words that every call writes away from what every call reads; for a single circuit. The circuits of a group save the bytes.</summary>
internal sealed class PaddedSlowCalls(long now, CircuitSettings settings) : SlowCalls(now, settings)
{
    private const int FirstSlot = 16;

    private PaddedInFlight _inFlight;

    private protected override ref uint Slot(int cohort) => ref _inFlight[FirstSlot + (int)((uint)cohort % Cohorts)];

    [InlineArray(FirstSlot + Cohorts + FirstSlot)]
    private struct PaddedInFlight
    {
        private uint _word;
    }
}
