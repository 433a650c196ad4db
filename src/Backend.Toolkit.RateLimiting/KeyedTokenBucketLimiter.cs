using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RateLimiting;

/// <summary>A <see cref="TokenBucketLimiter"/> for each key, in a table of fixed size: 17 bytes a key, no allocation, lossless while there is room. Thread-safe, lock-free for known keys.</summary>
/// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
public sealed class KeyedTokenBucketLimiter<TResource> : LocalKeyedRateLimiter<TResource>
{
    /// <summary>Makes a limiter that has seen no key.</summary>
    /// <param name="options">The options; copied.</param>
    /// <param name="timeProvider">The source of time; default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Where delegates that throw and limits that cannot be used are logged.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the message names all that are.</exception>
    public KeyedTokenBucketLimiter(KeyedTokenBucketLimiterOptions<TResource> options, TimeProvider? timeProvider = null, ILogger<KeyedTokenBucketLimiter<TResource>>? logger = null)
        : base(options, options, timeProvider, logger)
    {
    }

    /// <summary>Gives the limiter new numbers. What was charged stays charged; the name stays. Calls wait while the table is copied: about 50 ns for each slot.</summary>
    /// <param name="options">The options; copied.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the old options stay in force.</exception>
    public void Update(KeyedTokenBucketLimiterOptions<TResource> options) => Update(options, options);
}
