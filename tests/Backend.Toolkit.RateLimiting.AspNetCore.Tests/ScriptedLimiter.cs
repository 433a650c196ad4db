using System.Threading.RateLimiting;
using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.RateLimiting.AspNetCore.Tests;

/// <summary>A limiter from outside the toolkit, which says what a test wants and remembers what was asked of it.</summary>
internal sealed class ScriptedLimiter(Func<ValueTask<RateLimitDecision>> decide) : KeyedRateLimiter<HttpContext>
{
    public int Asked { get; private set; }

    public List<int> Settled { get; } = [];

    public override string Name => "scripted";

    public static RateLimitDecision Admitted(TimeSpan resetAfter = default) => new(isAdmitted: true, permits: 1, remaining: 5, TimeSpan.Zero, resetAfter);

    public static RateLimitDecision Refused(TimeSpan retryAfter = default) => new(isAdmitted: false, permits: 1, remaining: 0, retryAfter, retryAfter);

    public override IReadOnlyList<RateLimit> LimitsOf(HttpContext resource) => [new RateLimit(10, TimeSpan.FromSeconds(1))];

    public override ValueTask<RateLimitDecision> AcquireDecisionAsync(HttpContext resource, int permits = 1, CancellationToken cancellationToken = default)
    {
        Asked++;
        return decide();
    }

    public override void Settle(in RateLimitDecision decision, int actual) => Settled.Add(actual);

    public override bool TryAcquire(HttpContext resource, int permits, out RateLimitDecision decision) => throw new NotSupportedException();

    public override RateLimiterStatistics? GetStatistics(HttpContext resource) => null;

    protected override RateLimitLease AttemptAcquireCore(HttpContext resource, int permitCount) => throw new NotSupportedException();

    protected override ValueTask<RateLimitLease> AcquireAsyncCore(HttpContext resource, int permitCount, CancellationToken cancellationToken) => throw new NotSupportedException();
}
