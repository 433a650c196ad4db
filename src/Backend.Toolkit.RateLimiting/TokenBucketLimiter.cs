using System.Threading.RateLimiting;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// A token bucket, or up to four that must all admit: permits per period with a burst. A full bucket stays full: idle time is never credited twice. GCRA in fixed-point token units, one
/// 64-bit word and one compare-and-swap, no timer; rates are exact over years. Admissions read a clock that is up to one tick of the system stale (1 to 16 ms), so an interval may hold
/// rate × that more than burst + rate × interval; a refusal is never too early, and due within 32 ms exact to 100 ns. Thread-safe; lock-free while nobody waits. Source: ITU-T I.371, GCRA.
/// </summary>
public sealed class TokenBucketLimiter : RateLimiter
{
    private readonly Limiter _limiter;

    /// <summary>Makes a limiter that was never used.</summary>
    /// <param name="options">The options; copied.</param>
    /// <param name="timeProvider">The source of time; default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Where delegates that throw are logged.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the message names all that are.</exception>
    public TokenBucketLimiter(TokenBucketLimiterOptions options, TimeProvider? timeProvider = null, ILogger<TokenBucketLimiter>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        _limiter = new Limiter(LimiterSettings.Of(options), timeProvider, logger);
    }

    /// <summary>How long the limiter has been as if never used; null: it is not, or somebody waits.</summary>
    public override TimeSpan? IdleDuration => _limiter.IdleDuration(KeyTable.Shared);

    /// <summary>Charges the permits when they fit. Never waits, allocates nothing.</summary>
    /// <param name="permits">What the request costs; 0: only looks whether one permit could be had.</param>
    /// <param name="decision">What is left, and when to come back.</param>
    /// <returns>Whether the request may go on. One that costs more than the limit is refused for ever: its retry-after is <see cref="Timeout.InfiniteTimeSpan"/>.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="permits"/> is negative.</exception>
    /// <exception cref="ObjectDisposedException">The limiter was disposed.</exception>
    public bool TryAcquire(int permits, out RateLimitDecision decision) => _limiter.TryAcquire(KeyTable.Shared, null, permits, out decision);

    /// <summary>Charges the permits when they fit, if need be after a wait in the queue.</summary>
    /// <param name="permits">What the request costs; 0: only looks whether one permit could be had, or waits until it can.</param>
    /// <param name="cancellationToken">Ends the wait; what was admitted already stays charged.</param>
    /// <returns>The decision.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="permits"/> is negative.</exception>
    /// <exception cref="ObjectDisposedException">The limiter was disposed.</exception>
    public ValueTask<RateLimitDecision> AcquireDecisionAsync(int permits = 1, CancellationToken cancellationToken = default) =>
        _limiter.AcquireAsync(KeyTable.Shared, null, permits, cancellationToken);

    /// <summary>
    /// Replaces what a decision charged by what the request really cost: takes back what has not drained since, or charges more, as debt. Settle a decision once. One that was
    /// refused charged nothing.
    /// </summary>
    /// <param name="decision">A decision of this limiter.</param>
    /// <param name="actual">What it should have charged.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="actual"/> is negative.</exception>
    public void Settle(in RateLimitDecision decision, int actual) => _limiter.Settle(decision, actual);

    /// <summary>Gives the limiter new numbers. What was charged stays charged; the name stays.</summary>
    /// <param name="options">The options; copied.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the old options stay in force.</exception>
    public void Update(TokenBucketLimiterOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        _limiter.Update(LimiterSettings.Of(options));
    }

    /// <summary>The permits that could be had and those that wait. The totals count from the first call of this method on.</summary>
    /// <returns>The statistics.</returns>
    public override RateLimiterStatistics GetStatistics() => _limiter.Statistics(KeyTable.Shared, null);

    /// <inheritdoc/>
    protected override RateLimitLease AttemptAcquireCore(int permitCount)
    {
        _limiter.TryAcquire(KeyTable.Shared, null, permitCount, out RateLimitDecision decision);
        return Lease.Of(decision, permitCount);
    }

    /// <inheritdoc/>
    protected override ValueTask<RateLimitLease> AcquireAsyncCore(int permitCount, CancellationToken cancellationToken) =>
        Lease.Of(_limiter.AcquireAsync(KeyTable.Shared, null, permitCount, cancellationToken), permitCount);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _limiter.Dispose();
        }

        base.Dispose(disposing);
    }

    /// <inheritdoc/>
    protected override ValueTask DisposeAsyncCore()
    {
        // The framework's DisposeAsync calls Dispose(false) after this.
        Dispose(disposing: true);
        return base.DisposeAsyncCore();
    }
}
