namespace Backend.Toolkit.Idempotency;

/// <summary>A store cannot answer: it is down, too slow, or has no room.</summary>
/// <param name="message">What happened, and what to do.</param>
/// <param name="innerException">What the driver threw.</param>
public sealed class IdempotencyStoreException(string message, Exception? innerException = null) : Exception(message, innerException)
{
    /// <summary>The store answers, but has no room, and has told so itself.</summary>
    internal bool IsFull { get; init; }
}
