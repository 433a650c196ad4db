using System.Runtime.CompilerServices;

namespace Backend.Toolkit.CircuitBreakers;

/// <summary>
/// The calls of one closed period, counted over a sliding window of ten buckets. A new closed period has a new window, so a result from
/// before an opening can only ever reach a window that nobody judges any more. Adding is one interlocked operation on the current bucket;
/// everything else is changed under the circuit's lock.
/// </summary>
/// <remarks>
/// A bucket is one word: successes, failures and slow calls, 21 bits each. A bucket with a million calls is halved, which keeps its ratios.
/// </remarks>
internal class CallWindow(long now, CircuitSettings settings, bool padded = false)
{
    public const int Buckets = 10;

    public const long OneSuccess = 1L;
    public const long OneFailure = 1L << FieldBits;
    public const long OneSlow = 1L << (2 * FieldBits);

    private const int FieldBits = 21;
    private const long FieldMask = (1L << FieldBits) - 1;
    private const long HalfFull = (1L << (FieldBits - 1)) * (OneSuccess + OneFailure + OneSlow);

    // The order of memory is that of the hot path: what a report reads, then the ring (72 bytes that are written once per bucket and keep
    // the word that every report writes away from it), then that word. Structs are laid out last, in this order.
    private long _turn = long.MinValue;
    private long _bucketEnd = now + settings.BucketUnits;
    private int _pastSuccesses;
    private int _pastFailures;
    private int _pastSlow;
    private int _oldest;
    private int _failuresInARow;
    private int _version = settings.Version;
    private SlowCalls? _slowCalls = settings.SlowUnits > 0 ? NewSlowCalls(now, settings, padded) : null;
    private PastBuckets _past;
    private HotWord _current;

    /// <summary>Null while slow calls have never been on.</summary>
    public SlowCalls? SlowCalls => Volatile.Read(ref _slowCalls);

    public int FailuresInARow => Volatile.Read(ref _failuresInARow);

    /// <summary>True when a bucket or a cohort is over: time for <see cref="Advance"/>.</summary>
    public bool IsBehind(long now) => now >= Volatile.Read(ref _turn);

    /// <summary>Counts one call.</summary>
    /// <returns>True when the window, with this call in it, has neither failures nor slow calls, so that there is nothing to judge.</returns>
    public bool Add(long delta)
    {
        long word = Interlocked.Add(ref _current.Value, delta);
        if ((word & HalfFull) != 0)
        {
            Halve();
        }

        return word <= FieldMask && (_pastFailures | _pastSlow) == 0 && (SlowCalls is not { } slowCalls || slowCalls.Overdue == 0);
    }

    /// <summary>Counted in either mode, so that a reload may change the mode. A healthy call only reads.</summary>
    public void CountInARow(bool failed)
    {
        if (failed)
        {
            Interlocked.Increment(ref _failuresInARow);
        }
        else if (Volatile.Read(ref _failuresInARow) != 0)
        {
            Volatile.Write(ref _failuresInARow, 0);
        }
    }

    /// <summary>Exact under the lock. Without it a rotation or a report may be under way: what the totals suggest is confirmed under the lock.</summary>
    public CallCounts Total() =>
        Unpack(Volatile.Read(ref _current.Value)) + new CallCounts(_pastSuccesses, _pastFailures, _pastSlow);

    /// <summary>Under the lock. Moves on to the bucket and the cohort of <paramref name="now"/>.</summary>
    public void Advance(long now, CircuitSettings settings, bool padded)
    {
        if (_version != settings.Version)
        {
            // New options: a bucket that has just begun must not last as long as the old ones, and slow calls may have been turned on.
            _version = settings.Version;
            _bucketEnd = Math.Min(_bucketEnd, now + settings.BucketUnits);
            if (_slowCalls is null && settings.SlowUnits > 0)
            {
                Volatile.Write(ref _slowCalls, NewSlowCalls(now, settings, padded));
            }
        }

        if (now >= _bucketEnd)
        {
            Rotate(now, settings);
        }

        _slowCalls?.Advance(now, settings);
        Volatile.Write(ref _turn, settings.SlowUnits > 0 && _slowCalls is { } slowCalls ? Math.Min(_bucketEnd, slowCalls.CohortEnd) : _bucketEnd);
    }

    private static SlowCalls NewSlowCalls(long now, CircuitSettings settings, bool padded) =>
        padded ? new PaddedSlowCalls(now, settings) : new SlowCalls(now, settings);

    private static CallCounts Unpack(long bucket) =>
        new(bucket & FieldMask, (bucket >> FieldBits) & FieldMask, (bucket >> (2 * FieldBits)) & FieldMask);

    private void Rotate(long now, CircuitSettings settings)
    {
        long steps = 1 + (now - _bucketEnd) / settings.BucketUnits;

        // A report that raced with this lands in the next bucket: it is counted once either way.
        Push(Interlocked.Exchange(ref _current.Value, 0));
        for (long i = 1; i < Math.Min(steps, Buckets); i++)
        {
            Push(0);
        }

        CallCounts past = default;
        foreach (long bucket in _past)
        {
            past += Unpack(bucket);
        }

        (_pastSuccesses, _pastFailures, _pastSlow) = ((int)past.Successes, (int)past.Failures, (int)past.Slow);
        _bucketEnd += steps * settings.BucketUnits;
    }

    private void Push(long bucket)
    {
        _past[_oldest] = bucket;
        _oldest = (_oldest + 1) % (Buckets - 1);
    }

    private void Halve()
    {
        for (long word = Volatile.Read(ref _current.Value); (word & HalfFull) != 0; word = Volatile.Read(ref _current.Value))
        {
            CallCounts counts = Unpack(word);
            long half = counts.Successes / 2 * OneSuccess + counts.Failures / 2 * OneFailure + counts.Slow / 2 * OneSlow;
            Interlocked.CompareExchange(ref _current.Value, half, word);
        }
    }

    [InlineArray(Buckets - 1)]
    private struct PastBuckets
    {
        private long _bucket;
    }

    private struct HotWord
    {
        public long Value;
    }
}

/// <summary>A window whose hot word shares its cache line with no object behind it; for a single circuit. The circuits of a group save the bytes.</summary>
internal sealed class PaddedCallWindow(long now, CircuitSettings settings) : CallWindow(now, settings, padded: true)
{
    internal Padding Tail { get; }

    [InlineArray(7)]
    internal struct Padding
    {
        private long _unused;
    }
}

internal readonly record struct CallCounts(long Successes, long Failures, long Slow)
{
    public static CallCounts operator +(CallCounts a, CallCounts b) => new(a.Successes + b.Successes, a.Failures + b.Failures, a.Slow + b.Slow);
}
