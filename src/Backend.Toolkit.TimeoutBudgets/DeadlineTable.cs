using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Backend.Toolkit.TimeoutBudgets;

/// <summary>
/// The deadlines of all running scopes of one <see cref="TimeProvider"/>, and one timer at the earliest of them. Adding and removing cost O(1)
/// under the lock of one stripe: a stripe is a hashed timing wheel (Varghese and Lauck 1987, scheme 6) whose buckets also keep a lower bound
/// of their deadlines, so that the timer scans only what is due. The timer moves only when a deadline comes that is earlier than the one it
/// stands at; removing a deadline leaves it alone, an empty table arms nothing. A token never fires early: the timer's word is checked
/// against the precise clock. Callbacks of a token run on the thread pool, so that one that blocks or throws holds up no other token.
/// </summary>
internal sealed class DeadlineTable
{
    /// <summary>The deadline of a scope that has none.</summary>
    public const long Never = long.MaxValue;

    private const int BucketCount = 256;

    /// <summary>A scope keeps the number of its stripe in a byte.</summary>
    private const int MostStripes = 256;

    /// <summary>Below what a system timer takes (about 49.7 days); a later deadline is reached in several steps.</summary>
    private static readonly TimeSpan LongestWait = TimeSpan.FromDays(49);

    private static readonly DeadlineTable SystemTable = new(TimeProvider.System);
    private static readonly ConditionalWeakTable<TimeProvider, DeadlineTable> OtherTables = [];

    private readonly TimeProvider _provider;
    private readonly long _frequency;
    private readonly long _unitsPerTick;
    private readonly Stripe[] _stripes;
    private readonly Lock _timerLock = new();
    private readonly long _longestWait;
    private ITimer? _timer;

    /// <summary>When the timer wakes, <see cref="Never"/> when it stands still. Written under the lock, read without.</summary>
    private long _armedFor = Never;

    private DeadlineTable(TimeProvider provider)
    {
        _provider = provider;
        _frequency = provider.TimestampFrequency;
        _unitsPerTick = _frequency % TimeSpan.TicksPerSecond == 0 ? _frequency / TimeSpan.TicksPerSecond : 0;
        _longestWait = ToUnits(LongestWait);
        int bucketShift = BitOperations.Log2((ulong)Math.Max(1, _frequency / 16));
        _stripes = new Stripe[Math.Min(MostStripes, BitOperations.RoundUpToPowerOf2((uint)Environment.ProcessorCount))];
        for (int i = 0; i < _stripes.Length; i++)
        {
            _stripes[i] = new Stripe(bucketShift);
        }
    }

    public long Now => _provider.GetTimestamp();

    /// <summary>The number of the stripe of the processor that this runs on.</summary>
    public byte NearStripe => (byte)(Thread.GetCurrentProcessorId() & (_stripes.Length - 1));

    public static DeadlineTable For(TimeProvider? provider) => provider is null || ReferenceEquals(provider, TimeProvider.System)
        ? SystemTable
        : OtherTables.GetValue(provider, static provider => new DeadlineTable(provider));

    public Stripe StripeAt(byte number) => _stripes[number];

    /// <summary>Rounds up, so that a positive time is never zero units; what does not fit, and infinite time, is <see cref="Never"/>.</summary>
    public long ToUnits(TimeSpan time)
    {
        if (time < TimeSpan.Zero)
        {
            return Never;
        }

        if (_unitsPerTick > 0)
        {
            return time.Ticks > Never / _unitsPerTick ? Never : time.Ticks * _unitsPerTick;
        }

        Int128 units = ((Int128)time.Ticks * _frequency + TimeSpan.TicksPerSecond - 1) / TimeSpan.TicksPerSecond;
        return units > Never ? Never : (long)units;
    }

    /// <summary>Rounds up, so that what has not expired never reads as zero.</summary>
    public TimeSpan ToTimeSpan(long units)
    {
        Int128 ticks = ((Int128)units * TimeSpan.TicksPerSecond + _frequency - 1) / _frequency;
        return ticks > TimeSpan.MaxValue.Ticks ? TimeSpan.MaxValue : new TimeSpan((long)ticks);
    }

    public static long After(long start, long units) => units >= Never - Math.Max(start, 0) ? Never : start + units;

    public void Add(BudgetScope scope, byte stripe)
    {
        _stripes[stripe].Add(scope);
        Watch(scope.Deadline);
    }

    /// <summary>Makes sure that the timer stands at this deadline or before. After the scope was added, outside the lock of its stripe.</summary>
    private void Watch(long deadline)
    {
        if (deadline < Volatile.Read(ref _armedFor))
        {
            Arm(deadline, afterEarlyWake: false);
        }
    }

    private void Arm(long deadline, bool afterEarlyWake)
    {
        lock (_timerLock)
        {
            if (deadline >= _armedFor)
            {
                return;
            }

            long now = Now;
            long wakeAt = Math.Min(deadline, After(now, _longestWait));
            TimeSpan wait = ToTimeSpan(Math.Max(0, wakeAt - now));
            if (ReferenceEquals(_provider, TimeProvider.System) || (afterEarlyWake && wait < TimeSpan.FromMilliseconds(1)))
            {
                // Such a timer counts in whole milliseconds and drops the rest: it would come early, and then spin until the time is reached.
                wait = TimeSpan.FromMilliseconds(Math.Ceiling(wait.TotalMilliseconds));
            }

            _timer ??= CreateTimer();
            Volatile.Write(ref _armedFor, wakeAt);
            try
            {
                _timer.Change(wait, Timeout.InfiniteTimeSpan);
            }
            catch
            {
                // Or nobody would ever arm it again.
                Volatile.Write(ref _armedFor, Never);
                throw;
            }
        }
    }

    private ITimer CreateTimer()
    {
        // The timer lives as long as the table: it must not carry the async-locals of whoever happened to come first.
        using AsyncFlowControl flow = ExecutionContext.IsFlowSuppressed() ? default : ExecutionContext.SuppressFlow();
        return _provider.CreateTimer(static table => ((DeadlineTable)table!).OnTimer(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    private void OnTimer()
    {
        // First the timer counts as unarmed, then each stripe is scanned under its lock. A scope that is added behind the scan therefore
        // reads the unarmed value (or a later one) and arms the timer itself; one that was added before is seen by the scan.
        long now = Now;
        bool early;
        lock (_timerLock)
        {
            early = now < _armedFor;
            Volatile.Write(ref _armedFor, Never);
        }

        long next = Never;
        List<BudgetScope> expired = [];
        foreach (Stripe stripe in _stripes)
        {
            next = Math.Min(next, stripe.TakeExpired(now, expired));
        }

        try
        {
            if (next != Never)
            {
                Arm(next, afterEarlyWake: early);
            }
        }
        finally
        {
            FireAll(expired);
        }
    }

    private static void FireAll(List<BudgetScope> expired)
    {
        // A bucket gives the youngest first. The eldest goes first here: who waits beside a scope (AbandonOnExpiry) comes after the callbacks of it.
        for (int i = expired.Count - 1; i >= 0; i--)
        {
            Fire(expired[i]);
        }
    }

    /// <summary>The token reads as cancelled at once; its callbacks run on the thread pool.</summary>
    public static void Fire(BudgetScope scope)
    {
        using AsyncFlowControl flow = ExecutionContext.IsFlowSuppressed() ? default : ExecutionContext.SuppressFlow();
        Task callbacks = scope.CancelAsync();
        if (!callbacks.IsCompletedSuccessfully)
        {
            _ = callbacks.ContinueWith(
                static (task, name) =>
                {
                    _ = task.Exception;
                    Telemetry.CallbackFailed((string)name!);
                },
                scope.Name, CancellationToken.None, TaskContinuationOptions.OnlyOnFaulted | TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }
    }

    /// <summary>
    /// A part of the table with a lock of its own, one per processor, so that two threads do not meet. The lock guards the lists of its scopes
    /// and who holds them (<see cref="BudgetScope"/>). It is a spin lock, at a third of the price of a
    /// <see cref="System.Threading.Lock"/>: it is held for a few instructions that call nobody else's code; only the timer's scan is longer.
    /// </summary>
    internal sealed class Stripe(int bucketShift)
    {
        private readonly Bucket[] _buckets = CreateBuckets();
        private PaddedLock _lock;

        public void Enter()
        {
            if (Interlocked.CompareExchange(ref _lock.Taken, 1, 0) != 0)
            {
                EnterSlowly();
            }
        }

        public void Exit() => Volatile.Write(ref _lock.Taken, 0);

        public void Add(BudgetScope scope)
        {
            Enter();
            ref Bucket bucket = ref BucketOf(scope);
            scope.Next = bucket.First;
            if (bucket.First is not null)
            {
                bucket.First.Previous = scope;
            }

            bucket.First = scope;
            bucket.Earliest = Math.Min(bucket.Earliest, scope.Deadline);
            scope.IsInTable = true;
            Exit();
        }

        /// <summary>Called under the lock.</summary>
        public void Remove(BudgetScope scope)
        {
            if (scope.Next is not null)
            {
                scope.Next.Previous = scope.Previous;
            }

            if (scope.Previous is not null)
            {
                scope.Previous.Next = scope.Next;
            }
            else
            {
                ref Bucket bucket = ref BucketOf(scope);
                bucket.First = scope.Next;
                if (scope.Next is null)
                {
                    bucket.Earliest = Never;
                }
            }

            scope.Next = scope.Previous = null;
            scope.IsInTable = false;
        }

        /// <summary>Takes out the scopes whose deadline has passed.</summary>
        /// <returns>A lower bound of the deadlines that are left.</returns>
        public long TakeExpired(long now, List<BudgetScope> expired)
        {
            long next = Never;
            Enter();
            try
            {
                foreach (ref Bucket bucket in _buckets.AsSpan())
                {
                    if (bucket.Earliest <= now)
                    {
                        TakeExpired(ref bucket, now, expired);
                    }

                    next = Math.Min(next, bucket.Earliest);
                }
            }
            finally
            {
                Exit();
            }

            return next;
        }

        private void TakeExpired(ref Bucket bucket, long now, List<BudgetScope> expired)
        {
            bucket.Earliest = Never;
            for (BudgetScope? scope = bucket.First, following; scope is not null; scope = following)
            {
                following = scope.Next;
                if (scope.Deadline <= now)
                {
                    expired.Add(scope);
                    Remove(scope);
                }
                else
                {
                    bucket.Earliest = Math.Min(bucket.Earliest, scope.Deadline);
                }
            }
        }

        private void EnterSlowly()
        {
            var wait = default(SpinWait);
            do
            {
                wait.SpinOnce();
            }
            while (Interlocked.CompareExchange(ref _lock.Taken, 1, 0) != 0);
        }

        private ref Bucket BucketOf(BudgetScope scope) => ref _buckets[(int)(scope.Deadline >> bucketShift) & (BucketCount - 1)];

        private static Bucket[] CreateBuckets()
        {
            var buckets = new Bucket[BucketCount];
            Array.Fill(buckets, new Bucket { Earliest = Never });
            return buckets;
        }
    }

    private struct Bucket
    {
        public BudgetScope? First;

        /// <summary>No scope in the bucket has an earlier deadline; <see cref="Never"/> when it is empty.</summary>
        public long Earliest;
    }

    /// <summary>No other hot word shares its cache line (or the one that the processor fetches along with it).</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct PaddedLock
    {
        [FieldOffset(128)]
        public int Taken;
    }
}
