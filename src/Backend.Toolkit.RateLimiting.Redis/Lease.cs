namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>Permits that are charged in the store and not yet spent here. Under the gate of its key.</summary>
internal sealed class Lease(KeyState key)
{
    public KeyState Key => key;

    public long Permits { get; set; }

    /// <summary>The most that it may hold.</summary>
    public int Size { get; set; }

    public long ExpiresAt { get; set; }

    /// <summary>Gives permits back to the lease that they are of (below zero: takes more of it).</summary>
    /// <returns>Permits that it does not have.</returns>
    public long Settle(long back, long now)
    {
        lock (key.Gate)
        {
            if (!ReferenceEquals(key.Lease, this) || now >= ExpiresAt)
            {
                return Math.Max(0, -back);
            }

            long permits = Permits + back;
            Permits = Math.Clamp(permits, 0, Size);
            return Math.Max(0, -permits);
        }
    }
}
