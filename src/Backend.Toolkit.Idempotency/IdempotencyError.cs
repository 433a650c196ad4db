namespace Backend.Toolkit.Idempotency;

/// <summary>Why a request with a key did not run to an outcome of its own.</summary>
public enum IdempotencyError
{
    /// <summary>Somebody else runs it right now (HTTP: 409).</summary>
    InProgress,

    /// <summary>The key was used for another request (HTTP: 422).</summary>
    Mismatch,

    /// <summary>The key carries its own time and is older than outcomes are kept: whether it ran is not known any more (HTTP: 412).</summary>
    KeyExpired,

    /// <summary>It ran before; its outcome could not be kept, as it was too large or could not be written as JSON.</summary>
    OutcomeNotKept,

    /// <summary>It ran before; its outcome, or the value of a phase, cannot be read by this version of the program.</summary>
    OutcomeUnreadable,

    /// <summary>The run took longer than its lease and somebody else took over: what it made was not recorded.</summary>
    LeaseLost,

    /// <summary>It ran before, as <see cref="IdempotentOperation.BeginTransactionAsync"/> found out: let this exception pass, whoever began the operation replays the outcome.</summary>
    AlreadyCompleted,
}
