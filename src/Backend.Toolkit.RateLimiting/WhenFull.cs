namespace Backend.Toolkit.RateLimiting;

/// <summary>What happens to a new key when all slots that it may have hold keys in use.</summary>
public enum WhenFull
{
    /// <summary>The key among them that is closest to drained is forgotten: it gets its quota anew. The default.</summary>
    EvictClosestToDrained,

    /// <summary>The new key is refused until one of them has drained. No key ever regains quota by a flood of others.</summary>
    Deny,

    /// <summary>All keys without a slot share one limit. No key that has a slot ever regains quota by a flood of others.</summary>
    SharedOverflow,
}
