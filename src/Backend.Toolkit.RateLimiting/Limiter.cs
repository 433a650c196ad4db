using System.Threading.RateLimiting;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// What the public limiters are faces of: charging without waiting, waiting in line, shadow mode, counting. One lock and one timer for all that wait, in any number
/// of lines; a call that finds nobody waiting takes no lock.
/// </summary>
internal sealed class Limiter : IDisposable
{
    private readonly Ledger _ledger;
    private readonly TimeProvider _timeProvider;
    private readonly ILogger? _logger;
    private readonly Lock _lock = new();
    private readonly Dictionary<ulong, Line> _lines = [];
    private readonly SortedSet<Line> _due = [];
    private LimiterSettings _settings;
    private ITimer? _timer;
    private int _waiting;
    private bool _isDisposed;
    private bool _countsTotals;

    /// <summary>Disposed, in shadow mode or counting totals.</summary>
    private volatile bool _isUnusual;
    private long _admitted;
    private long _refused;
    private int _toldOfLimits;

    public Limiter(LimiterSettings settings, TimeProvider? timeProvider, ILogger? logger)
    {
        _settings = settings;
        _isUnusual = settings.IsShadow;
        _timeProvider = timeProvider ?? TimeProvider.System;
        _logger = logger;
        _ledger = new Ledger(settings, _timeProvider);
    }

    public string Name => _settings.Name;

    public ILogger? Logger => _logger;

    /// <summary>How long the key has been as if never used; null: it is not, or somebody waits.</summary>
    public TimeSpan? IdleDuration(ulong key)
    {
        long now = _ledger.Clock.Precise;
        long since = _ledger.DrainedAt(key, now);
        return since <= now && Volatile.Read(ref _waiting) == 0 ? new TimeSpan(now - since) : null;
    }

    public bool TryAcquire(ulong key, IReadOnlyList<RateLimit>? limits, int permits, out RateLimitDecision decision)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(permits);
        if (Volatile.Read(ref _waiting) != 0 || _isUnusual || Telemetry.CountsRequests)
        {
            return TryAcquireAndCount(key, limits, permits, out decision);
        }

        return _ledger.TryCharge(key, limits, permits, out decision);
    }

    /// <summary>Admitted or refused at once, or after a wait.</summary>
    public ValueTask<RateLimitDecision> AcquireAsync(ulong key, IReadOnlyList<RateLimit>? limits, int permits, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(permits);
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<RateLimitDecision>(cancellationToken);
        }

        LimiterSettings settings = _settings;
        if (settings.QueueLimit == 0 || settings.IsShadow)
        {
            TryAcquire(key, limits, permits, out RateLimitDecision decision);
            return new ValueTask<RateLimitDecision>(decision);
        }

        if (Volatile.Read(ref _waiting) == 0 && _ledger.TryCharge(key, limits, permits, out RateLimitDecision admitted))
        {
            return new ValueTask<RateLimitDecision>(Counted(admitted));
        }

        return Wait(settings, key, limits, permits, TimeLeft(settings), cancellationToken);
    }

    public void Settle(in RateLimitDecision decision, int actual)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(actual);
        _ledger.Settle(decision, actual);
        if (Volatile.Read(ref _waiting) != 0 && actual < decision.Charged)
        {
            lock (_lock)
            {
                if (_lines.TryGetValue(decision.Key & KeyTable.KeyMask, out Line? line))
                {
                    Admit(line);
                    Schedule();
                }
            }
        }
    }

    public RateLimiterStatistics Statistics(ulong key, IReadOnlyList<RateLimit>? limits)
    {
        _countsTotals = _isUnusual = true;
        _ledger.TryCharge(key, limits, 0, out RateLimitDecision decision);
        long queued;
        lock (_lock)
        {
            queued = _lines.TryGetValue(key, out Line? line) ? line.Permits : 0;
        }

        return new RateLimiterStatistics
        {
            CurrentAvailablePermits = decision.Remaining,
            CurrentQueuedCount = queued,
            TotalSuccessfulLeases = Interlocked.Read(ref _admitted),
            TotalFailedLeases = Interlocked.Read(ref _refused),
        };
    }

    /// <summary>The limits that a key has of its own; null: the limiter's.</summary>
    public IReadOnlyList<RateLimit>? Usable(IReadOnlyList<RateLimit>? limits)
    {
        if (limits is null || _ledger.Knows(limits))
        {
            return limits;
        }

        if (_logger is not null && Interlocked.Exchange(ref _toldOfLimits, 1) == 0)
        {
            Log.UnusableLimits(_logger, Name, string.Join(", ", limits));
        }

        return null;
    }

    public void Update(LimiterSettings settings)
    {
        lock (_lock)
        {
            if (!settings.HasTableOf(_settings))
            {
                _ledger.Update(settings);
                Volatile.Write(ref _toldOfLimits, 0);
            }

            _settings = settings with { Name = _settings.Name };
            _isUnusual = _isDisposed || _countsTotals || settings.IsShadow;
            foreach (Line line in _lines.Values.ToArray())
            {
                Admit(line);
            }

            Schedule();
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            _isDisposed = _isUnusual = true;
            foreach (Line line in _lines.Values.ToArray())
            {
                while (line.Waiters.First is { } oldest)
                {
                    Refuse(oldest);
                }
            }

            _timer?.Dispose();
        }
    }

    private static TimeSpan Shorter(TimeSpan a, TimeSpan b) => a < b ? a : b;

    private bool TryAcquireAndCount(ulong key, IReadOnlyList<RateLimit>? limits, int permits, out RateLimitDecision decision)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (permits > 0 && Volatile.Read(ref _waiting) != 0 && !_settings.IsNewestFirst && TryRefuseBehindOthers(key, limits, permits, out decision))
        {
            Counted(decision);
            return false;
        }

        if (!_ledger.TryCharge(key, limits, permits, out decision) && _settings.IsShadow)
        {
            decision = new RateLimitDecision(decision, permits, isShadow: true, decision.RetryAfter);
        }

        return Counted(decision).IsAdmitted;
    }

    /// <summary>Nobody overtakes those who wait.</summary>
    private bool TryRefuseBehindOthers(ulong key, IReadOnlyList<RateLimit>? limits, int permits, out RateLimitDecision decision)
    {
        lock (_lock)
        {
            if (!_lines.TryGetValue(key, out Line? line))
            {
                decision = default;
                return false;
            }

            // Those who are due, but for a timer that is late, go first; then there may be nobody to wait behind.
            Admit(line);
            if (line.Waiters.Count == 0)
            {
                decision = default;
                return false;
            }

            decision = RefusalBehind(line, limits, permits, _ledger.DueAfter(key, limits, permits, line.Permits));
            return true;
        }
    }

    private RateLimitDecision RefusalBehind(Line line, IReadOnlyList<RateLimit>? limits, int permits, TimeSpan due)
    {
        _ledger.TryCharge(line.Key, limits, 0, out RateLimitDecision seen);
        return new RateLimitDecision(seen, permits, isShadow: false, due);
    }

    private ValueTask<RateLimitDecision> Wait(LimiterSettings settings, ulong key, IReadOnlyList<RateLimit>? limits, int permits, TimeSpan? timeLeft, CancellationToken cancellationToken)
    {
        LinkedListNode<Waiter> node;
        RateLimitDecision decision;
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);

            // Announced before the last look, so that who takes a charge back either is seen by that look or sees the announcement.
            Interlocked.Increment(ref _waiting);
            bool isFirst = !_lines.TryGetValue(key, out Line? line);
            line ??= new Line(key);
            if ((isFirst || settings.IsNewestFirst || permits == 0) && _ledger.TryCharge(key, limits, permits, out decision))
            {
                Interlocked.Decrement(ref _waiting);
                return new ValueTask<RateLimitDecision>(Counted(decision));
            }

            TimeSpan due = _ledger.DueAfter(key, limits, permits, settings.IsNewestFirst ? 0 : line.Permits);
            bool isFull = !line.HasRoomFor(permits, settings.QueueLimit) && (!settings.IsNewestFirst || permits > settings.QueueLimit);
            if (isFull || due == Timeout.InfiniteTimeSpan || due >= timeLeft)
            {
                Interlocked.Decrement(ref _waiting);
                return new ValueTask<RateLimitDecision>(Counted(RefusalBehind(line, limits, permits, due)));
            }

            while (!line.HasRoomFor(permits, settings.QueueLimit) && line.Waiters.First is { } oldest)
            {
                Refuse(oldest);
            }

            node = line.Waiters.AddLast(new Waiter(line, permits, limits));
            line.Permits += permits;
            _lines[key] = line;
            _due.Remove(line);
            if (line.Waiters.Count == 1 || settings.IsNewestFirst)
            {
                line.DueAt = _ledger.Clock.Precise + due.Ticks;
            }

            _due.Add(line);
            Telemetry.Waits(settings.Name, 1);
            Schedule();
        }

        return new ValueTask<RateLimitDecision>(cancellationToken.CanBeCanceled ? WithCancellation(node, cancellationToken) : node.Value.Task);
    }

    private async Task<RateLimitDecision> WithCancellation(LinkedListNode<Waiter> node, CancellationToken cancellationToken)
    {
        using (cancellationToken.UnsafeRegister(_ => Cancel(node, cancellationToken), null))
        {
            return await node.Value.Task.ConfigureAwait(false);
        }
    }

    private void Cancel(LinkedListNode<Waiter> node, CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            // Not in a line any more: admitted or refused already, and that stands.
            if (node.List is null)
            {
                return;
            }

            Leave(node);
            node.Value.TrySetCanceled(cancellationToken);
            Admit(node.Value.Line);
            Schedule();
        }
    }

    /// <summary>Admits from the line whoever can be admitted now.</summary>
    private void Admit(Line line)
    {
        while ((_settings.IsNewestFirst ? line.Waiters.Last : line.Waiters.First) is { } next)
        {
            Waiter waiter = next.Value;
            if (!_ledger.TryCharge(line.Key, waiter.Limits, waiter.Permits, out RateLimitDecision decision))
            {
                if (decision.RetryAfter == Timeout.InfiniteTimeSpan)
                {
                    Refuse(next);
                    continue;
                }

                _due.Remove(line);
                line.DueAt = _ledger.Clock.Precise + decision.RetryAfter.Ticks;
                _due.Add(line);
                return;
            }

            Leave(next);
            waiter.TrySetResult(Counted(decision));
        }
    }

    private void Refuse(LinkedListNode<Waiter> node)
    {
        Waiter waiter = node.Value;
        Leave(node);
        waiter.TrySetResult(Counted(RefusalBehind(waiter.Line, waiter.Limits, waiter.Permits, _ledger.DueAfter(waiter.Line.Key, waiter.Limits, waiter.Permits, 0))));
    }

    private void Leave(LinkedListNode<Waiter> node)
    {
        Line line = node.Value.Line;
        line.Waiters.Remove(node);
        line.Permits -= node.Value.Permits;
        if (line.Waiters.Count == 0)
        {
            _lines.Remove(line.Key);
            _due.Remove(line);
        }

        Interlocked.Decrement(ref _waiting);
        Telemetry.Waits(Name, -1);
    }

    /// <summary>Sets the timer to the line that is due first.</summary>
    private void Schedule()
    {
        if (_due.Min is not { } first || _isDisposed)
        {
            return;
        }

        if (_timer is null)
        {
            using AsyncFlowControl? flow = ExecutionContext.IsFlowSuppressed() ? null : ExecutionContext.SuppressFlow();
            _timer = _timeProvider.CreateTimer(static state => ((Limiter)state!).OnDue(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        }

        // Whole milliseconds, rounded up; never zero, or a timer that is early would spin.
        long wait = Math.Max(1, first.DueAt - _ledger.Clock.Precise);
        long milliseconds = (wait + TimeSpan.TicksPerMillisecond - 1) / TimeSpan.TicksPerMillisecond;
        _timer.Change(Shorter(TimeSpan.FromMilliseconds(milliseconds), TimeSpan.FromDays(1)), Timeout.InfiniteTimeSpan);
    }

    private void OnDue()
    {
        lock (_lock)
        {
            long now = _ledger.Clock.Precise;
            while (_due.Min is { } line && line.DueAt <= now)
            {
                Admit(line);
            }

            Schedule();
        }
    }

    private TimeSpan? TimeLeft(LimiterSettings settings)
    {
        try
        {
            return settings.TimeLeft?.Invoke();
        }
        catch (Exception exception)
        {
            if (_logger is not null)
            {
                Log.DelegateThrew(_logger, exception, Name, nameof(LimiterOptions.TimeLeft), "the wait has no deadline");
            }

            return null;
        }
    }

    private RateLimitDecision Counted(in RateLimitDecision decision)
    {
        if (_countsTotals)
        {
            Interlocked.Increment(ref decision.IsAdmitted ? ref _admitted : ref _refused);
        }

        if (Telemetry.CountsRequests)
        {
            Telemetry.Decided(Name, decision);
        }

        return decision;
    }
}
