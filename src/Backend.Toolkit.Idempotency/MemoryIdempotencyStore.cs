using System.Data.Common;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Backend.Toolkit.Idempotency;

/// <summary>
/// Records in the memory of one process. Exact under contention: every verb is one step under one lock, which is held for about a microsecond, for half a
/// microsecond more for each record that begin finds expired, and never while anything is awaited. Bounded: full of live records it refuses new keys (<see cref="IdempotencyStoreException"/>), and forgets none.
/// Expired records go when somebody begins, cheapest first, without a timer. Waiters are woken, not polled.
/// About 280 bytes per record, beside what it keeps. Thread-safe.
/// </summary>
public sealed class MemoryIdempotencyStore : IIdempotencyStore
{
    private readonly Lock _gate = new();
    private readonly Dictionary<IdempotencyDigest, Record> _records = [];

    /// <summary>All records, the first to expire first. A record leaves it before its <see cref="Record.Expiry"/> changes.</summary>
    private readonly SortedSet<Record> _byExpiry = new(Comparer<Record>.Create(static (left, right) =>
        left.Expiry != right.Expiry ? left.Expiry.CompareTo(right.Expiry) : left.Number.CompareTo(right.Number)));

    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private int _maxRecords;
    private long _maxBytes;
    private long _bytes;
    private long _lastFence;
    private long _lastNumber;
    private bool _toldFull;

    /// <summary>An empty store.</summary>
    /// <param name="options">How much it holds.</param>
    /// <param name="timeProvider">Decides expiry. Default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Hears when the store is full.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options have problems; the message tells all of them.</exception>
    public MemoryIdempotencyStore(MemoryIdempotencyStoreOptions options, TimeProvider? timeProvider = null, ILogger<MemoryIdempotencyStore>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        _time = timeProvider ?? TimeProvider.System;
        _logger = logger ?? NullLogger<MemoryIdempotencyStore>.Instance;
        _maxRecords = options.MaxRecords;
        _maxBytes = options.MaxBytes;
        Name = options.Name;
        if (Name.Length > 0)
        {
            Telemetry.Register(this);
        }
    }

    internal string Name { get; }

    /// <summary>How many records there are, some of which may have expired since somebody last began.</summary>
    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _records.Count;
            }
        }
    }

    /// <summary>How many bytes of outcomes and phases are kept.</summary>
    public long Bytes
    {
        get
        {
            lock (_gate)
            {
                return _bytes;
            }
        }
    }

    /// <summary>Gives the live store other bounds. All records stay, also those above a lower bound.</summary>
    /// <param name="options">The new options; <see cref="MemoryIdempotencyStoreOptions.Name"/> stays what it was.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options have problems; the old ones stay in force.</exception>
    public void Update(MemoryIdempotencyStoreOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        lock (_gate)
        {
            _maxRecords = options.MaxRecords;
            _maxBytes = options.MaxBytes;
        }
    }

    /// <inheritdoc/>
    public ValueTask<IdempotencyClaim> BeginAsync(IdempotencyClaimRequest request, CancellationToken cancellationToken = default)
    {
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<IdempotencyClaim>(cancellationToken);
        }

        IdempotencyClaim claim;
        TaskCompletionSource? woken = null;
        (int Records, long Bytes)? full = null;
        bool tell = false;
        lock (_gate)
        {
            long now = _time.GetTimestamp();
            RemoveExpired(now);
            if ((!_records.TryGetValue(request.Key, out Record? record) && (request.PreviousKey is not { } previous || !_records.TryGetValue(previous, out record)))
                && (_records.Count >= _maxRecords || _bytes >= _maxBytes))
            {
                (full, tell, _toldFull) = ((_records.Count, _bytes), !_toldFull, true);
                claim = default;
            }
            else
            {
                claim = Claim(record, request, now, out woken);
            }
        }

        woken?.SetResult();
        if (full is var (records, bytes))
        {
            if (tell)
            {
                Log.StoreFull(_logger, Name, records, bytes);
            }

            return ValueTask.FromException<IdempotencyClaim>(new IdempotencyStoreException(
                ValidOptions.Invariant($"The store in memory is full of live records ({records} records, {bytes} bytes): raise MaxRecords or MaxBytes, or shorten Retention."))
            { IsFull = true });
        }

        return new ValueTask<IdempotencyClaim>(claim);
    }

    /// <inheritdoc/>
    public ValueTask<bool> RenewAsync(IdempotencyDigest key, long fence, TimeSpan lease, CancellationToken cancellationToken = default)
    {
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<bool>(cancellationToken);
        }

        lock (_gate)
        {
            long now = _time.GetTimestamp();
            if (Owned(key, fence, now) is not { } record)
            {
                return new ValueTask<bool>(false);
            }

            record.LeaseEnd = now + Units(lease);
            if (record.LeaseEnd > record.Expiry)
            {
                SetExpiry(record, record.LeaseEnd);
            }

            return new ValueTask<bool>(true);
        }
    }

    /// <inheritdoc/>
    public ValueTask<bool> SavePhaseAsync(IdempotencyDigest key, long fence, string phase, ReadOnlyMemory<byte> value, DbTransaction? transaction = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(phase);
        ThrowIfGiven(transaction);
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<bool>(cancellationToken);
        }

        byte[] copy = value.ToArray();
        lock (_gate)
        {
            if (Owned(key, fence, _time.GetTimestamp()) is not { } record)
            {
                return new ValueTask<bool>(false);
            }

            // Replaced, not changed: a claim may hold the old one.
            var phases = record.Phases is null ? [] : new Dictionary<string, ReadOnlyMemory<byte>>(record.Phases, StringComparer.Ordinal);
            _bytes += copy.Length - (phases.TryGetValue(phase, out ReadOnlyMemory<byte> old) ? old.Length : 0);
            phases[phase] = copy;
            record.Phases = phases;
            return new ValueTask<bool>(true);
        }
    }

    /// <inheritdoc/>
    public ValueTask<bool> CompleteAsync(IdempotencyDigest key, long fence, IdempotencyOutcome outcome, TimeSpan retention, DbTransaction? transaction = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(outcome);
        ThrowIfGiven(transaction);
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<bool>(cancellationToken);
        }

        IdempotencyOutcome copy = outcome.IsTombstone ? outcome : new IdempotencyOutcome(outcome.Status, outcome.Content.ToArray());
        TaskCompletionSource? woken;
        lock (_gate)
        {
            long now = _time.GetTimestamp();
            if (Owned(key, fence, now) is not { } record)
            {
                // The reply to the first attempt may have been lost on its way.
                return new ValueTask<bool>(Live(key, now) is { Outcome: not null } completed && completed.Fence == fence);
            }

            _bytes += copy.Content.Length - PhaseBytes(record);
            record.Phases = null;
            record.Outcome = copy;
            SetExpiry(record, now + Units(retention));
            woken = record.TakeWaiters();
        }

        woken?.SetResult();
        return new ValueTask<bool>(true);
    }

    /// <inheritdoc/>
    public ValueTask<bool> AbandonAsync(IdempotencyDigest key, long fence, CancellationToken cancellationToken = default)
    {
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<bool>(cancellationToken);
        }

        TaskCompletionSource? woken;
        lock (_gate)
        {
            if (Owned(key, fence, _time.GetTimestamp()) is not { } record)
            {
                return new ValueTask<bool>(false);
            }

            woken = record.TakeWaiters();
            if (record.Phases is null)
            {
                Remove(record);
            }
            else
            {
                record.IsAbandoned = true;
            }
        }

        woken?.SetResult();
        return new ValueTask<bool>(true);
    }

    /// <inheritdoc/>
    public ValueTask WaitAsync(IdempotencyDigest key, long fence, TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled(cancellationToken);
        }

        Task ended;
        lock (_gate)
        {
            if (Owned(key, fence, _time.GetTimestamp()) is not { } record)
            {
                return ValueTask.CompletedTask;
            }

            ended = (record.Waiters ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;
        }

        return new ValueTask(WithinAsync(ended, timeout, cancellationToken));
    }

    private async Task WithinAsync(Task ended, TimeSpan timeout, CancellationToken cancellationToken)
    {
        if (timeout > TimeSpan.Zero)
        {
            await ended.WaitAsync(timeout, _time, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            cancellationToken.ThrowIfCancellationRequested();
        }
    }

    private static void ThrowIfGiven(DbTransaction? transaction)
    {
        if (transaction is not null)
        {
            throw new NotSupportedException("Memory has no transactions: register a store in the database that the transaction belongs to.");
        }
    }

    /// <summary>Under the lock, with room for a new record when there is none.</summary>
    private IdempotencyClaim Claim(Record? record, in IdempotencyClaimRequest request, long now, out TaskCompletionSource? woken)
    {
        woken = null;
        if (record is null)
        {
            record = new Record(request.Key, ++_lastNumber);
            _records.Add(record.Key, record);
        }
        else if (record.Fingerprint != request.Fingerprint)
        {
            return IdempotencyClaim.Mismatch(record.Key);
        }
        else if (record.Outcome is not null)
        {
            return IdempotencyClaim.Completed(record.Key, record.Outcome);
        }
        else if (!record.IsAbandoned && record.LeaseEnd > now)
        {
            return IdempotencyClaim.InProgress(record.Key, record.Fence, _time.GetElapsedTime(now, record.LeaseEnd));
        }

        // One sequence for all keys: a key whose record was removed can never get a fence that it had before.
        _lastFence = Math.Max(_lastFence + 1, (_time.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond);
        woken = record.TakeWaiters();
        record.Fingerprint = request.Fingerprint;
        record.Fence = _lastFence;
        record.IsAbandoned = false;
        record.LeaseEnd = now + Units(request.Lease);
        SetExpiry(record, Math.Max(record.LeaseEnd, now + Units(request.Retention)));
        return IdempotencyClaim.Started(record.Key, record.Fence, record.Phases);
    }

    private Record? Live(IdempotencyDigest key, long now) => _records.TryGetValue(key, out Record? record) && record.Expiry > now ? record : null;

    private Record? Owned(IdempotencyDigest key, long fence, long now) =>
        Live(key, now) is { Outcome: null, IsAbandoned: false } record && record.Fence == fence ? record : null;

    private void SetExpiry(Record record, long expiry)
    {
        _byExpiry.Remove(record);
        record.Expiry = expiry;
        _byExpiry.Add(record);
    }

    private void RemoveExpired(long now)
    {
        while (_byExpiry.Min is { } first && first.Expiry <= now)
        {
            first.TakeWaiters()?.SetResult();
            Remove(first);
        }
    }

    private void Remove(Record record)
    {
        _byExpiry.Remove(record);
        _records.Remove(record.Key);
        _bytes -= PhaseBytes(record) + (record.Outcome?.Content.Length ?? 0);
        _toldFull = _toldFull && 2L * _records.Count > _maxRecords;
    }

    private static long PhaseBytes(Record record)
    {
        long bytes = 0;
        if (record.Phases is not null)
        {
            foreach (ReadOnlyMemory<byte> value in record.Phases.Values)
            {
                bytes += value.Length;
            }
        }

        return bytes;
    }

    /// <summary>Rounds up, so that a positive duration is never zero units.</summary>
    private long Units(TimeSpan duration) =>
        (long)(((Int128)duration.Ticks * _time.TimestampFrequency + TimeSpan.TicksPerSecond - 1) / TimeSpan.TicksPerSecond);

    private sealed class Record(IdempotencyDigest key, long number)
    {
        public IdempotencyDigest Key { get; } = key;

        public long Number { get; } = number;

        public IdempotencyDigest Fingerprint { get; set; }

        public long Fence { get; set; }

        public long LeaseEnd { get; set; }

        public long Expiry { get; set; }

        public bool IsAbandoned { get; set; }

        public Dictionary<string, ReadOnlyMemory<byte>>? Phases { get; set; }

        public IdempotencyOutcome? Outcome { get; set; }

        public TaskCompletionSource? Waiters { get; set; }

        /// <summary>Its continuations run elsewhere, so that it may be completed anywhere.</summary>
        public TaskCompletionSource? TakeWaiters()
        {
            TaskCompletionSource? waiters = Waiters;
            Waiters = null;
            return waiters;
        }
    }
}
