namespace Backend.Toolkit.Idempotency;

/// <summary>What is kept of a run that ended: a small status and opaque bytes, which only those who wrote them can read.</summary>
public sealed class IdempotencyOutcome
{
    /// <summary>An outcome that can be given again.</summary>
    /// <param name="status">A number for whoever replays it: the status code of HTTP; 0 where there is none.</param>
    /// <param name="content">The rest, opaque to stores. Not copied here; a store copies what it keeps.</param>
    public IdempotencyOutcome(int status, ReadOnlyMemory<byte> content)
    {
        Status = status;
        Content = content;
    }

    private IdempotencyOutcome(int status)
    {
        Status = status;
        IsTombstone = true;
    }

    /// <summary>The status code of HTTP; 0 where there is none.</summary>
    public int Status { get; }

    /// <summary>The rest, opaque to stores; empty in a tombstone.</summary>
    public ReadOnlyMemory<byte> Content { get; }

    /// <summary>The run ended, but its outcome could not be kept, as it was too large or could not be written as JSON: a repeat is told so, and never runs again.</summary>
    public bool IsTombstone { get; }

    /// <summary>Says that a run ended with this status, and that nothing more was kept of it.</summary>
    /// <param name="status">The status code of HTTP; 0 where there is none.</param>
    /// <returns>The tombstone.</returns>
    public static IdempotencyOutcome Tombstone(int status) => new(status);
}
