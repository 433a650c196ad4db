namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>
/// How many attempts each endpoint has under way in this process, and how many it may. It begins with one; a good answer doubles what it may, a slow one halves it, a failure makes it one again. Those that may
/// have one share half of the slots, so that they never take what the others need. One lock, held for a dictionary lookup; endpoints with nothing under way and nothing learnt are forgotten.
/// </summary>
internal sealed class EndpointLoad(TimeProvider timeProvider)
{
    private static readonly TimeSpan Remembered = TimeSpan.FromMinutes(5);

    private readonly Lock _lock = new();
    private readonly Dictionary<string, Entry> _entries = [];
    private int _underWay;
    private int _slow;
    private long _pruned = timeProvider.GetTimestamp();

    public int UnderWay
    {
        get
        {
            lock (_lock)
            {
                return _underWay;
            }
        }
    }

    /// <summary>What a claim may take; it is counted only when it was taken.</summary>
    public Func<string, int, int> Plan(WebhookDeliveryOptions options)
    {
        int planned = 0;
        int plannedSlow = 0;
        return (endpointId, failures) =>
        {
            lock (_lock)
            {
                int free = options.MaxConcurrency - _underWay - planned;
                Entry? entry = _entries.GetValueOrDefault(endpointId);
                int allowed = failures > 0 ? 1 : Math.Min(entry?.Allowed ?? 1, options.MaxConcurrencyPerEndpoint);
                bool slow = failures > 0 || entry is null or { IsProven: false };
                if (slow)
                {
                    free = Math.Min(free, Math.Max(1, options.MaxConcurrency / 2) - _slow - plannedSlow);
                }

                int quota = Math.Max(0, Math.Min(free, allowed - (entry?.UnderWay ?? 0)));
                planned += quota;
                plannedSlow += slow ? quota : 0;
                return quota;
            }
        };
    }

    /// <returns>Whether it took one of the slots of those that are not proven; told again when it ends.</returns>
    public bool Begin(string endpointId, int failures)
    {
        lock (_lock)
        {
            if (!_entries.TryGetValue(endpointId, out Entry? entry))
            {
                _entries.Add(endpointId, entry = new Entry());
            }

            entry.UnderWay++;
            _underWay++;
            bool slow = failures > 0 || !entry.IsProven;
            _slow += slow ? 1 : 0;
            return slow;
        }
    }

    public void End(string endpointId, bool slow, in Answer answer, WebhookDeliveryOptions options)
    {
        lock (_lock)
        {
            Entry entry = _entries[endpointId];
            entry.UnderWay--;
            entry.Used = timeProvider.GetTimestamp();
            _underWay--;
            _slow -= slow ? 1 : 0;
            if (!answer.IsNone)
            {
                bool good = answer.IsSuccess && answer.Duration < options.AttemptTimeout / 4;
                entry.IsProven = good;
                entry.Allowed = good ? Math.Min(entry.Allowed * 2, options.MaxConcurrencyPerEndpoint) : answer.IsSuccess ? Math.Max(1, entry.Allowed / 2) : 1;
            }

            if (timeProvider.GetElapsedTime(_pruned) > Remembered)
            {
                _pruned = entry.Used;
                foreach ((string id, Entry old) in _entries)
                {
                    if (old.UnderWay == 0 && timeProvider.GetElapsedTime(old.Used) > Remembered)
                    {
                        _entries.Remove(id);
                    }
                }
            }
        }
    }

    private sealed class Entry
    {
        public int UnderWay { get; set; }

        public int Allowed { get; set; } = 1;

        public bool IsProven { get; set; }

        public long Used { get; set; }
    }
}
