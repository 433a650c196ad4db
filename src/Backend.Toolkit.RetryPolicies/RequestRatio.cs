using System.Numerics;

namespace Backend.Toolkit.RetryPolicies;

/// <summary>
/// Retries as a share of the calls of a sliding window, with a floor, as in Finagle's and Linkerd's retry budgets. Calls are counted in ten
/// buckets, striped by thread, one interlocked increment each; the few that retry sum the stripes under a lock and are counted there,
/// in eleven buckets, so that no stretch of one window, wherever it starts, has more retries than its floor and its calls allow.
/// A call counted late or not at all only makes the budget smaller, so no interleaving overspends it.
/// </summary>
internal sealed class RequestRatio
{
    private const int Buckets = 10;

    /// <summary>A power of two above <see cref="Buckets"/>; 16 words of 8 bytes fill two cache lines.</summary>
    private const int Slots = 16;

    private readonly Lock _gate = new();
    private readonly Clock _clock;
    private Counts _calls;

    // Below: guarded by the gate. Thousandths of a retry.
    private long _perCall;
    private long _floor;
    private Counts _retries;
    private long _latest = long.MinValue;

    public RequestRatio(RetryBudgetOptions options, Clock clock)
    {
        _clock = clock;
        long units = clock.ToUnits(options.Window / Buckets);
        _calls = new Counts(Stripes, units, clock.Now);
        _retries = new Counts(1, units, clock.Now);
        SetNumbers(options);
    }

    /// <summary>A power of two, so that a thread finds its stripe by a mask.</summary>
    private static int Stripes { get; } = (int)Math.Min(BitOperations.RoundUpToPowerOf2((uint)Environment.ProcessorCount), 16);

    /// <summary>The whole retries that would be allowed now.</summary>
    public long Left
    {
        get
        {
            lock (_gate)
            {
                (long allowed, long spent) = Read(_clock.Now);
                return Math.Max(allowed - spent, 0);
            }
        }
    }

    public void OnRequest() => Volatile.Read(ref _calls).Add(_clock.Now);

    /// <param name="plenty">Whether, after this retry, at least half of what is allowed is left.</param>
    public bool TryTake(out bool plenty)
    {
        lock (_gate)
        {
            // A clock that goes backwards must not put retries where they are not counted.
            long now = _latest = Math.Max(_latest, _clock.Now);
            (long allowed, long spent) = Read(now);
            plenty = (spent + 1) * 2 <= allowed;
            if (spent >= allowed)
            {
                return false;
            }

            _retries.Add(now);
            return true;
        }
    }

    /// <summary>Keeps what was counted. When the length of the window changes, all of it moves into the current bucket of the new one.</summary>
    public void Update(RetryBudgetOptions options)
    {
        lock (_gate)
        {
            SetNumbers(options);
            long units = _clock.ToUnits(options.Window / Buckets);
            if (units != _calls.BucketUnits)
            {
                long now = _clock.Now;
                long calls = _calls.Sum(now);
                if (units < _calls.BucketUnits)
                {
                    // A shorter window holds its share of the calls; all the retries stay, so that a reload is no burst.
                    calls = (long)((Int128)calls * units / _calls.BucketUnits);
                }

                _retries = new Counts(1, units, now, _retries.Sum(now, Buckets + 1));
                Volatile.Write(ref _calls, new Counts(Stripes, units, now, calls));
            }
        }
    }

    private (long Allowed, long Spent) Read(long now) => ((_calls.Sum(now) * _perCall + _floor) / 1000, _retries.Sum(now, Buckets + 1));

    private void SetNumbers(RetryBudgetOptions options)
    {
        _perCall = (long)Math.Round(options.RetryRatio * 1000);
        _floor = options.MinRetriesPerSecond * (long)options.Window.TotalMilliseconds;
    }

    /// <summary>
    /// How often something happened in each of the last ten buckets of time. A slot holds the number of its bucket (its low 32 bits) above the
    /// count, so that one word says both and a slot of long ago is recognised without a sweep.
    /// </summary>
    private sealed class Counts
    {
        private readonly long[] _slots;
        private readonly long _origin;
        private readonly ulong _reciprocal;
        private readonly int _lastStripe;

        /// <summary>Buckets are numbered from <paramref name="now"/>, into which <paramref name="count"/> events are put.</summary>
        public Counts(int stripes, long bucketUnits, long now, long count = 0)
        {
            BucketUnits = bucketUnits;
            _origin = now;
            _lastStripe = stripes - 1;
            _reciprocal = ulong.MaxValue / (ulong)bucketUnits;

            // One block in front, so that the array's length, which every access reads, shares no line with a count.
            _slots = new long[(stripes + 1) * Slots];
            _slots[Slots] = count;
        }

        public long BucketUnits { get; }

        public void Add(long now)
        {
            long bucket = BucketAt(now);
            int stripe = 1 + (Environment.CurrentManagedThreadId & _lastStripe);
            ref long slot = ref _slots[stripe * Slots + (int)(bucket & Slots - 1)];
            if ((int)(Volatile.Read(ref slot) >> 32) == (int)bucket || TryReuse(ref slot, bucket))
            {
                // If sixteen buckets go by right here, the event is counted in a later bucket; the count itself cannot reach 2³² in one bucket.
                Interlocked.Increment(ref slot);
            }
        }

        /// <summary>The events of the last <paramref name="buckets"/> buckets.</summary>
        public long Sum(long now, int buckets = Buckets)
        {
            int bucket = (int)BucketAt(now);
            long sum = 0;
            for (int i = Slots; i < _slots.Length; i++)
            {
                long word = Volatile.Read(ref _slots[i]);
                if (unchecked((uint)(bucket - (int)(word >> 32))) < (uint)buckets)
                {
                    sum += (uint)word;
                }
            }

            return sum;
        }

        /// <summary>
        /// Empties a slot of long ago for this bucket, unless another thread just did. False when the slot is already a later bucket's:
        /// sixteen buckets went by since the clock was read, and the event is out of the window.
        /// </summary>
        private static bool TryReuse(ref long slot, long bucket)
        {
            long word = Volatile.Read(ref slot);
            while ((int)bucket - (int)(word >> 32) > 0)
            {
                long seen = Interlocked.CompareExchange(ref slot, bucket << 32, word);
                if (seen == word)
                {
                    return true;
                }

                word = seen;
            }

            return (int)(word >> 32) == (int)bucket;
        }

        /// <summary>A multiplication, because a division costs several times as much; off by less than one unit in any realistic uptime.</summary>
        private long BucketAt(long now) => (long)Math.BigMul((ulong)Math.Max(now - _origin, 0), _reciprocal, out _);
    }
}
