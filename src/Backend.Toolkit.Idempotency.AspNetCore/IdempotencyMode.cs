namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>How an endpoint runs once.</summary>
public enum IdempotencyMode
{
    /// <summary>The key is claimed with a lease before the handler runs, and its response is recorded when it has: effects anywhere, one recorded outcome.</summary>
    Lease,

    /// <summary>
    /// The handler claims the key in its own transaction (<see cref="IdempotentOperation.BeginTransactionAsync"/>), and the response is part of the commit: one committed effect for each key.
    /// It needs a store in the database that the handler writes to.
    /// </summary>
    Transaction,
}
