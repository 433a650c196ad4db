namespace Backend.Toolkit.RateLimiting;

/// <summary>A request that waits.</summary>
internal sealed class Waiter(Line line, int permits, IReadOnlyList<RateLimit>? limits)
    : TaskCompletionSource<RateLimitDecision>(TaskCreationOptions.RunContinuationsAsynchronously)
{
    public Line Line => line;

    public int Permits => permits;

    public IReadOnlyList<RateLimit>? Limits => limits;
}
