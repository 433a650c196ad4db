using System.Threading.RateLimiting;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RateLimiting;

/// <summary>What the keyed limiters of this package share: keys, limits of their own, the framework's face.</summary>
/// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
public abstract class LocalKeyedRateLimiter<TResource> : KeyedRateLimiter<TResource>
{
    private readonly Limiter _limiter;
    private readonly KeyHash _hash = new();
    private volatile Func<TResource, RateLimitKey> _keySelector;
    private volatile Func<TResource, IReadOnlyList<RateLimit>?>? _limitsFor;
    private volatile IReadOnlyList<RateLimit> _limits;

    private protected LocalKeyedRateLimiter(LimiterOptions options, IKeyedOptions<TResource> keyed, TimeProvider? timeProvider, ILogger? logger)
    {
        ArgumentNullException.ThrowIfNull(options);
        var settings = LimiterSettings.Of(options, keyed.Capacity, keyed.WhenFull);
        _limiter = new Limiter(settings, timeProvider, logger);
        (_keySelector, _limitsFor, _limits) = (keyed.KeySelector!, keyed.LimitsFor, settings.Limits);
    }

    /// <inheritdoc/>
    public override string Name => _limiter.Name;

    /// <inheritdoc/>
    public override IReadOnlyList<RateLimit> LimitsOf(TResource resource) => Own(resource) ?? _limits;

    /// <inheritdoc/>
    public override bool TryAcquire(TResource resource, int permits, out RateLimitDecision decision) =>
        _limiter.TryAcquire(Key(resource), _limitsFor is null ? null : Own(resource), permits, out decision);

    /// <inheritdoc/>
    public override ValueTask<RateLimitDecision> AcquireDecisionAsync(TResource resource, int permits = 1, CancellationToken cancellationToken = default) =>
        _limiter.AcquireAsync(Key(resource), Own(resource), permits, cancellationToken);

    /// <inheritdoc/>
    public override void Settle(in RateLimitDecision decision, int actual) => _limiter.Settle(decision, actual);

    /// <summary>The permits that the key could have and those that wait for it. The totals are of all keys, and count from the first call of this method on.</summary>
    /// <param name="resource">The resource whose key is looked at.</param>
    /// <returns>The statistics.</returns>
    public override RateLimiterStatistics GetStatistics(TResource resource) => _limiter.Statistics(Key(resource), Own(resource));

    private protected void Update(LimiterOptions options, IKeyedOptions<TResource> keyed)
    {
        ArgumentNullException.ThrowIfNull(options);
        var settings = LimiterSettings.Of(options, keyed.Capacity, keyed.WhenFull);
        _limiter.Update(settings);
        (_keySelector, _limitsFor, _limits) = (keyed.KeySelector!, keyed.LimitsFor, settings.Limits);
    }

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

    /// <summary>The hash of the resource's key; never that of all without a slot, and free for the number of a plan in its low bits.</summary>
    private ulong Key(TResource resource)
    {
        RateLimitKey key;
        try
        {
            key = _keySelector(resource);
        }
        catch (Exception exception)
        {
            Tell(exception, "KeySelector", "the request counts as one without a key");
            key = default;
        }

        ulong hash = key.Hash(_hash) & KeyTable.KeyMask;
        return hash <= KeyTable.Shared ? KeyTable.Shared << 1 : hash;
    }

    private IReadOnlyList<RateLimit>? Own(TResource resource)
    {
        if (_limitsFor is not { } limitsFor)
        {
            return null;
        }

        try
        {
            return _limiter.Usable(limitsFor(resource));
        }
        catch (Exception exception)
        {
            Tell(exception, "LimitsFor", "Limits hold for the key");
            return null;
        }
    }

    private void Tell(Exception exception, string option, string instead)
    {
        if (_limiter.Logger is { } logger)
        {
            Log.DelegateThrew(logger, exception, Name, option, instead);
        }
    }
}
