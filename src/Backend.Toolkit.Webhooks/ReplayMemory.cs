using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Webhooks;

/// <summary>
/// What this process has seen: a dictionary by key and a tree by expiry under one lock. Every step is exact under contention. What has expired goes when somebody reserves, the first to expire first, without a timer.
/// Full of what has not, it refuses and forgets nothing: a key that is forgotten is a message that can be handled twice.
/// </summary>
internal sealed class ReplayMemory
{
    private readonly Lock _gate = new();
    private readonly Dictionary<WebhookReplayKey, Entry> _entries = [];

    /// <summary>An entry leaves it before its expiry changes.</summary>
    private readonly SortedSet<Entry> _byExpiry = new(Comparer<Entry>.Create(static (left, right) =>
        left.Expiry != right.Expiry ? left.Expiry.CompareTo(right.Expiry) : left.Number.CompareTo(right.Number)));

    private readonly string _name;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private long _last;
    private bool _toldFull;

    public ReplayMemory(string name, TimeProvider time, ILogger logger)
    {
        (_name, _time, _logger) = (name, time, logger);
        Store = new WebhookReplayStore
        {
            Reserve = (request, _) => new(Reserve(request)),
            Commit = (key, fence, keepFor, _) => new(Commit(key, fence, keepFor)),
            Release = (key, fence, _) => new(Release(key, fence)),
        };
    }

    public WebhookReplayStore Store { get; }

    public int MaxKeys { get; set; }

    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _entries.Count;
            }
        }
    }

    private WebhookReplayAnswer Reserve(in WebhookReplayRequest request)
    {
        bool tell;
        int count;
        lock (_gate)
        {
            long now = _time.GetTimestamp();
            while (_byExpiry.Min is { } first && first.Expiry <= now)
            {
                Remove(first);
            }

            _entries.TryGetValue(request.Key, out Entry? entry);
            if (entry is { IsCommitted: true })
            {
                return new WebhookReplayAnswer(WebhookReservationStatus.Committed);
            }

            if (entry is not null && entry.LeaseEnd > now)
            {
                return new WebhookReplayAnswer(WebhookReservationStatus.InProgress, LeaseLeft: _time.GetElapsedTime(now, entry.LeaseEnd));
            }

            if (entry is not null || _entries.Count < MaxKeys)
            {
                entry ??= _entries[request.Key] = new Entry(request.Key, ++_last);

                // One sequence for all keys: a key that was forgotten never gets a fence that it had before.
                entry.Fence = ++_last;
                entry.LeaseEnd = now + Units(request.Lease);
                SetExpiry(entry, now + Units(request.KeepFor));
                return new WebhookReplayAnswer(WebhookReservationStatus.Reserved, entry.Fence);
            }

            tell = !_toldFull;
            _toldFull = true;
            count = _entries.Count;
        }

        if (tell)
        {
            Log.GuardFull(_logger, _name, count);
        }

        return new WebhookReplayAnswer(WebhookReservationStatus.Full);
    }

    private bool Commit(WebhookReplayKey key, long fence, TimeSpan keepFor)
    {
        lock (_gate)
        {
            // Said again, it is true again: an answer may have been lost. A lease that ended takes nothing from its owner until somebody else reserves.
            if (!_entries.TryGetValue(key, out Entry? entry) || entry.Fence != fence)
            {
                return false;
            }

            if (!entry.IsCommitted)
            {
                entry.IsCommitted = true;
                SetExpiry(entry, _time.GetTimestamp() + Units(keepFor));
            }

            return true;
        }
    }

    private bool Release(WebhookReplayKey key, long fence)
    {
        lock (_gate)
        {
            if (!_entries.TryGetValue(key, out Entry? entry) || entry.Fence != fence || entry.IsCommitted)
            {
                return false;
            }

            Remove(entry);
            return true;
        }
    }

    private void SetExpiry(Entry entry, long expiry)
    {
        _byExpiry.Remove(entry);
        entry.Expiry = expiry;
        _byExpiry.Add(entry);
    }

    private void Remove(Entry entry)
    {
        _byExpiry.Remove(entry);
        _entries.Remove(entry.Key);
        _toldFull = _toldFull && 2L * _entries.Count > MaxKeys;
    }

    /// <summary>Rounds up.</summary>
    private long Units(TimeSpan duration) => (long)((((Int128)duration.Ticks * _time.TimestampFrequency) + TimeSpan.TicksPerSecond - 1) / TimeSpan.TicksPerSecond);

    private sealed class Entry(WebhookReplayKey key, long number)
    {
        public WebhookReplayKey Key { get; } = key;

        public long Number { get; } = number;

        public long Fence { get; set; }

        public long LeaseEnd { get; set; }

        public long Expiry { get; set; }

        public bool IsCommitted { get; set; }
    }
}
