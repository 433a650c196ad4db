namespace Backend.Toolkit.RateLimiting;

/// <summary>Those who wait for one key, the oldest first. Guarded by the lock of the queue.</summary>
internal sealed class Line(ulong key) : IComparable<Line>
{
    public ulong Key => key;

    public LinkedList<Waiter> Waiters { get; } = [];

    /// <summary>The permits they wait for.</summary>
    public long Permits { get; set; }

    /// <summary>When the next of them may be admitted.</summary>
    public long DueAt { get; set; }

    /// <summary>One who waits for nothing but a look counts as one who waits for one permit: else there would be no bound.</summary>
    public bool HasRoomFor(int permits, int limit) => Math.Max(Permits, Waiters.Count) + Math.Max(permits, 1) <= limit;

    public int CompareTo(Line? other) => other is null ? 1 : DueAt != other.DueAt ? DueAt.CompareTo(other.DueAt) : Key.CompareTo(other.Key);
}
