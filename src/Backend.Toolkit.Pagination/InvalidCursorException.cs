namespace Backend.Toolkit.Pagination;

/// <summary>A cursor that came from outside is refused. It tells nothing of what was in it.</summary>
public sealed class InvalidCursorException : Exception
{
    /// <summary>A refusal for that reason.</summary>
    /// <param name="reason">Why.</param>
    public InvalidCursorException(InvalidCursorReason reason)
        : base(Sentence(reason)) => Reason = reason;

    /// <summary>Why the cursor was refused.</summary>
    public InvalidCursorReason Reason { get; }

    private static string Sentence(InvalidCursorReason reason) => reason switch
    {
        InvalidCursorReason.Malformed => "The cursor is malformed.",
        InvalidCursorReason.TooLong => "The cursor is too long.",
        InvalidCursorReason.UnknownKey => "The cursor was sealed by a key or version that is not in use.",
        InvalidCursorReason.Foreign => "The cursor belongs to another query.",
        InvalidCursorReason.Expired => "The cursor has expired.",
        _ => "The cursor was altered.",
    };
}
