namespace Backend.Toolkit.Pagination;

/// <summary>A <see cref="PageReader{T}"/> stopped before the last page. What it gave before is complete up to <see cref="Resume"/>.</summary>
public sealed class PageReadException : Exception
{
    /// <summary>An end before the last page.</summary>
    /// <param name="reason">Why.</param>
    /// <param name="message">The same in words.</param>
    /// <param name="resume">Where it would go on.</param>
    /// <param name="innerException">What went wrong, if anything did.</param>
    public PageReadException(PageReadReason reason, string message, string? resume, Exception? innerException = null)
        : base(message, innerException)
    {
        Reason = reason;
        Resume = resume;
    }

    /// <summary>Why.</summary>
    public PageReadReason Reason { get; }

    /// <summary>The cursor or link of the page that was not read; null: it was the first.</summary>
    public string? Resume { get; }
}
