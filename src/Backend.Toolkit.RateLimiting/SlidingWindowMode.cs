namespace Backend.Toolkit.RateLimiting;

/// <summary>How a sliding window is counted.</summary>
public enum SlidingWindowMode
{
    /// <summary>
    /// By two counters, as if the requests of the window before had come evenly: 8 bytes. A burst at the end of one window and the start of the next may hold up to
    /// twice the limit within one window's length. The default.
    /// </summary>
    Estimate,

    /// <summary>By a log of instants: no window of that length, wherever it starts, holds more than the limit. 4 bytes for each permit of the limit; limits to 10 000.</summary>
    Exact,
}
