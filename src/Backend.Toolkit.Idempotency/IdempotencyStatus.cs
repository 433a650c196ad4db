namespace Backend.Toolkit.Idempotency;

/// <summary>How an operation stands when it was begun.</summary>
public enum IdempotencyStatus
{
    /// <summary>Transaction mode: nothing is claimed before <see cref="IdempotentOperation.BeginTransactionAsync"/>.</summary>
    Prepared,

    /// <summary>It is ours to run.</summary>
    Started,

    /// <summary>It is ours to run, without protection: the store is down, and it was said to be optional.</summary>
    Unprotected,

    /// <summary>Somebody else runs it right now.</summary>
    InProgress,

    /// <summary>It ran before: <see cref="IdempotentOperation.Outcome"/> is the answer.</summary>
    Completed,

    /// <summary>The key was used for another request.</summary>
    Mismatch,

    /// <summary>The key carries its own time and is older than outcomes are kept.</summary>
    KeyExpired,
}
