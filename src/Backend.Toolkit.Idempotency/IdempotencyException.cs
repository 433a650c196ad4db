namespace Backend.Toolkit.Idempotency;

/// <summary>A request with a key did not run to an outcome of its own.</summary>
public sealed class IdempotencyException : Exception
{
    internal IdempotencyException(IdempotencyError error, string message, TimeSpan? retryAfter = null, Exception? innerException = null)
        : base(message, innerException)
    {
        Error = error;
        RetryAfter = retryAfter;
    }

    /// <summary>Why.</summary>
    public IdempotencyError Error { get; }

    /// <summary>In progress under a lease: the time after which the owner has ended or can be taken over; null otherwise, also while somebody else's transaction has the key, which ends when that does.</summary>
    public TimeSpan? RetryAfter { get; }
}
