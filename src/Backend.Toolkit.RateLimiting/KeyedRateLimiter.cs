using System.Threading.RateLimiting;

namespace Backend.Toolkit.RateLimiting;

/// <summary>A limiter with a state for each key of its resources, local or shared by nodes; what code that limits depends on.</summary>
/// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
public abstract class KeyedRateLimiter<TResource> : PartitionedRateLimiter<TResource>
{
    /// <summary>The name of the limiter, as in its options.</summary>
    public abstract string Name { get; }

    /// <summary>The limits that hold for a resource.</summary>
    /// <param name="resource">The resource.</param>
    /// <returns>One to four limits.</returns>
    public abstract IReadOnlyList<RateLimit> LimitsOf(TResource resource);

    /// <summary>Charges the key of the resource when the permits fit. Never waits.</summary>
    /// <param name="resource">What asks.</param>
    /// <param name="permits">What it costs; 0: only looks whether one permit could be had.</param>
    /// <param name="decision">What is left, and when to come back.</param>
    /// <returns>Whether the request may go on. One that costs more than the limit is refused for ever: its retry-after is <see cref="Timeout.InfiniteTimeSpan"/>.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="permits"/> is negative.</exception>
    /// <exception cref="ObjectDisposedException">The limiter was disposed.</exception>
    public abstract bool TryAcquire(TResource resource, int permits, out RateLimitDecision decision);

    /// <summary>Charges the key of the resource when the permits fit, if need be after a wait or a call to a store.</summary>
    /// <param name="resource">What asks.</param>
    /// <param name="permits">What it costs; 0: only looks whether one permit could be had, or waits until it can.</param>
    /// <param name="cancellationToken">Ends the wait; what was admitted already stays charged.</param>
    /// <returns>The decision.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="permits"/> is negative.</exception>
    /// <exception cref="ObjectDisposedException">The limiter was disposed.</exception>
    public abstract ValueTask<RateLimitDecision> AcquireDecisionAsync(TResource resource, int permits = 1, CancellationToken cancellationToken = default);

    /// <summary>
    /// Replaces what a decision charged by what the request really cost: takes back what has not drained since, or charges more, as debt. Settle a decision once. One that was
    /// refused charged nothing.
    /// </summary>
    /// <param name="decision">A decision of this limiter.</param>
    /// <param name="actual">What it should have charged.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="actual"/> is negative.</exception>
    public abstract void Settle(in RateLimitDecision decision, int actual);

    /// <inheritdoc/>
    protected override RateLimitLease AttemptAcquireCore(TResource resource, int permitCount)
    {
        TryAcquire(resource, permitCount, out RateLimitDecision decision);
        return Lease.Of(decision, permitCount);
    }

    /// <inheritdoc/>
    protected override ValueTask<RateLimitLease> AcquireAsyncCore(TResource resource, int permitCount, CancellationToken cancellationToken) =>
        Lease.Of(AcquireDecisionAsync(resource, permitCount, cancellationToken), permitCount);
}
