namespace Backend.Toolkit.Idempotency;

/// <summary>What happens to a request whose key is in progress.</summary>
public enum DuplicatePolicy
{
    /// <summary>It is told so at once, with the time after which it may come back.</summary>
    Reject,

    /// <summary>It waits, within its own time, and gets the outcome of the run in progress; when that run dies, it takes over.</summary>
    WaitAndReplay,
}
