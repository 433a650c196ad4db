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
    private int _width = Mark(settings);
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
            uint word = Volatile.Read(ref slot);
            if (!Holds(word, cohort))
            {
                // The cohort has just moved on. Nothing may be added before that is known: it would be counted in another cohort.
                continue;
            }

            if ((word & CountMask) == CountMask)
            {
                return -1;
            }

            if (Interlocked.CompareExchange(ref slot, word + 1, word) == word)
            {
                return cohort;
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

    /// <summary>Under the lock. The call is among the overdue ones or, after a reload, where <see cref="Rebase"/> has put it: the oldest cohort with calls.</summary>
    public void LeaveOverdue()
    {
        if (_overdue > 0)
        {
            Volatile.Write(ref _overdue, _overdue - 1);
            return;
        }

        for (int i = 1; i <= Cohorts; i++)
        {
            ref uint slot = ref Slot(_cohort + i);
            for (uint word = Volatile.Read(ref slot); (word & CountMask) != 0; word = Volatile.Read(ref slot))
            {
                if (Interlocked.CompareExchange(ref slot, word - 1, word) == word)
                {
                    return;
                }
            }
        }
    }

    /// <summary>Under the lock. Moves on to the cohort of <paramref name="now"/>; what falls out of the ring is overdue.</summary>
    public void Advance(long now, CircuitSettings settings)
    {
        if (settings.SlowUnits == 0)
        {
            return;
        }

        if (_width != Mark(settings))
        {
            Rebase(now, settings);
        }

        if (now < _cohortEnd)
        {
            return;
        }

        long steps = 1 + (now - _cohortEnd) / settings.CohortUnits;
        Volatile.Write(ref _overdue, _overdue + Recycle(steps));
        _cohortEnd += steps * settings.CohortUnits;
    }

    /// <summary>
    /// The duration has changed: cohorts of the old width say nothing about it. Every call in flight counts as started now, so none is judged
    /// before it has been in flight for the new duration.
    /// </summary>
    private void Rebase(long now, CircuitSettings settings)
    {
        int calls = _overdue + Recycle(Cohorts);
        Volatile.Write(ref _overdue, 0);
        Interlocked.Add(ref Slot(_cohort), (uint)Math.Min(calls, (int)CountMask));
        _width = Mark(settings);
        _cohortEnd = now + settings.CohortUnits;
    }

    /// <returns>The calls in the cohorts that fell out of the ring.</returns>
    private int Recycle(long steps)
    {
        int calls = 0;
        for (long step = Math.Max(1, steps - Cohorts + 1); step <= steps; step++)
        {
            int cohort = (int)((_cohort + step) % NumberRange);
            calls += (int)(Interlocked.Exchange(ref Slot(cohort), Empty(cohort)) & CountMask);
        }

        Volatile.Write(ref _cohort, (int)((_cohort + steps) % NumberRange));
        return calls;
    }

    /// <summary>The width of the cohorts, as far as 32 bits tell widths apart.</summary>
    private static int Mark(CircuitSettings settings) => unchecked((int)settings.CohortUnits);

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
