using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// Registers limiters as singletons, keyed by name. Their options are validated at start-up, may be bound from configuration under the same name, and reach the
/// live instance when they reload; a <see cref="TimeProvider"/> and a logger are taken from the container.
/// </summary>
public static class RateLimitingServiceCollectionExtensions
{
    /// <summary>Adds a <see cref="TokenBucketLimiter"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTokenBucketLimiter(this IServiceCollection services, Action<TokenBucketLimiterOptions>? configure = null)
    {
        AddValidOptions<TokenBucketLimiterOptions>(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton<TokenBucketLimiter>(static provider => CreateTokenBucket(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="TokenBucketLimiter"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTokenBucketLimiter(this IServiceCollection services, Action<TokenBucketLimiterOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<TokenBucketLimiterOptions>(Options.DefaultName).Configure(configure);
        return services.AddTokenBucketLimiter(configure: (Action<TokenBucketLimiterOptions>?)null);
    }

    /// <summary>Adds a <see cref="TokenBucketLimiter"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTokenBucketLimiter(this IServiceCollection services, string name, Action<TokenBucketLimiterOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions<TokenBucketLimiterOptions>(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton<TokenBucketLimiter>(name, static (provider, key) => CreateTokenBucket(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="TokenBucketLimiter"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTokenBucketLimiter(this IServiceCollection services, string name, Action<TokenBucketLimiterOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<TokenBucketLimiterOptions>(name).Configure(configure);
        return services.AddTokenBucketLimiter(name, configure: (Action<TokenBucketLimiterOptions>?)null);
    }

    /// <summary>Adds a <see cref="KeyedRateLimiter{TResource}"/> (<see cref="KeyedTokenBucketLimiter{TResource}"/>) as a plain singleton.</summary>
    /// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="keySelector">By what is counted.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTokenBucketLimiter<TResource>(this IServiceCollection services, Func<TResource, RateLimitKey> keySelector, Action<KeyedTokenBucketLimiterOptions<TResource>>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(keySelector);
        AddValidOptions<KeyedTokenBucketLimiterOptions<TResource>>(services, Options.DefaultName).Configure(options => options.KeySelector = keySelector).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton<KeyedRateLimiter<TResource>>(static provider => CreateKeyedTokenBucket<TResource>(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="KeyedRateLimiter{TResource}"/> (<see cref="KeyedTokenBucketLimiter{TResource}"/>) as a plain singleton.</summary>
    /// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="keySelector">By what is counted.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTokenBucketLimiter<TResource>(this IServiceCollection services, Func<TResource, RateLimitKey> keySelector, Action<KeyedTokenBucketLimiterOptions<TResource>, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<KeyedTokenBucketLimiterOptions<TResource>>(Options.DefaultName).Configure(configure);
        return services.AddTokenBucketLimiter(keySelector, configure: (Action<KeyedTokenBucketLimiterOptions<TResource>>?)null);
    }

    /// <summary>Adds a <see cref="KeyedRateLimiter{TResource}"/> (<see cref="KeyedTokenBucketLimiter{TResource}"/>) as a singleton keyed by <paramref name="name"/>.</summary>
    /// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="keySelector">By what is counted.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTokenBucketLimiter<TResource>(this IServiceCollection services, string name, Func<TResource, RateLimitKey> keySelector, Action<KeyedTokenBucketLimiterOptions<TResource>>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(keySelector);
        AddValidOptions<KeyedTokenBucketLimiterOptions<TResource>>(services, name).Configure(options => options.KeySelector = keySelector).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton<KeyedRateLimiter<TResource>>(name, static (provider, key) => CreateKeyedTokenBucket<TResource>(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="KeyedRateLimiter{TResource}"/> (<see cref="KeyedTokenBucketLimiter{TResource}"/>) as a singleton keyed by <paramref name="name"/>.</summary>
    /// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="keySelector">By what is counted.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTokenBucketLimiter<TResource>(this IServiceCollection services, string name, Func<TResource, RateLimitKey> keySelector, Action<KeyedTokenBucketLimiterOptions<TResource>, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<KeyedTokenBucketLimiterOptions<TResource>>(name).Configure(configure);
        return services.AddTokenBucketLimiter(name, keySelector, configure: (Action<KeyedTokenBucketLimiterOptions<TResource>>?)null);
    }

    /// <summary>Adds a <see cref="SlidingWindowLimiter"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSlidingWindowLimiter(this IServiceCollection services, Action<SlidingWindowLimiterOptions>? configure = null)
    {
        AddValidOptions<SlidingWindowLimiterOptions>(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton<SlidingWindowLimiter>(static provider => CreateSlidingWindow(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="SlidingWindowLimiter"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSlidingWindowLimiter(this IServiceCollection services, Action<SlidingWindowLimiterOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<SlidingWindowLimiterOptions>(Options.DefaultName).Configure(configure);
        return services.AddSlidingWindowLimiter(configure: (Action<SlidingWindowLimiterOptions>?)null);
    }

    /// <summary>Adds a <see cref="SlidingWindowLimiter"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSlidingWindowLimiter(this IServiceCollection services, string name, Action<SlidingWindowLimiterOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions<SlidingWindowLimiterOptions>(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton<SlidingWindowLimiter>(name, static (provider, key) => CreateSlidingWindow(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="SlidingWindowLimiter"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSlidingWindowLimiter(this IServiceCollection services, string name, Action<SlidingWindowLimiterOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<SlidingWindowLimiterOptions>(name).Configure(configure);
        return services.AddSlidingWindowLimiter(name, configure: (Action<SlidingWindowLimiterOptions>?)null);
    }

    /// <summary>Adds a <see cref="KeyedRateLimiter{TResource}"/> (<see cref="KeyedSlidingWindowLimiter{TResource}"/>) as a plain singleton.</summary>
    /// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="keySelector">By what is counted.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSlidingWindowLimiter<TResource>(this IServiceCollection services, Func<TResource, RateLimitKey> keySelector, Action<KeyedSlidingWindowLimiterOptions<TResource>>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(keySelector);
        AddValidOptions<KeyedSlidingWindowLimiterOptions<TResource>>(services, Options.DefaultName).Configure(options => options.KeySelector = keySelector).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton<KeyedRateLimiter<TResource>>(static provider => CreateKeyedSlidingWindow<TResource>(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="KeyedRateLimiter{TResource}"/> (<see cref="KeyedSlidingWindowLimiter{TResource}"/>) as a plain singleton.</summary>
    /// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="keySelector">By what is counted.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSlidingWindowLimiter<TResource>(this IServiceCollection services, Func<TResource, RateLimitKey> keySelector, Action<KeyedSlidingWindowLimiterOptions<TResource>, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<KeyedSlidingWindowLimiterOptions<TResource>>(Options.DefaultName).Configure(configure);
        return services.AddSlidingWindowLimiter(keySelector, configure: (Action<KeyedSlidingWindowLimiterOptions<TResource>>?)null);
    }

    /// <summary>Adds a <see cref="KeyedRateLimiter{TResource}"/> (<see cref="KeyedSlidingWindowLimiter{TResource}"/>) as a singleton keyed by <paramref name="name"/>.</summary>
    /// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="keySelector">By what is counted.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSlidingWindowLimiter<TResource>(this IServiceCollection services, string name, Func<TResource, RateLimitKey> keySelector, Action<KeyedSlidingWindowLimiterOptions<TResource>>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(keySelector);
        AddValidOptions<KeyedSlidingWindowLimiterOptions<TResource>>(services, name).Configure(options => options.KeySelector = keySelector).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton<KeyedRateLimiter<TResource>>(name, static (provider, key) => CreateKeyedSlidingWindow<TResource>(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="KeyedRateLimiter{TResource}"/> (<see cref="KeyedSlidingWindowLimiter{TResource}"/>) as a singleton keyed by <paramref name="name"/>.</summary>
    /// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="keySelector">By what is counted.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSlidingWindowLimiter<TResource>(this IServiceCollection services, string name, Func<TResource, RateLimitKey> keySelector, Action<KeyedSlidingWindowLimiterOptions<TResource>, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<KeyedSlidingWindowLimiterOptions<TResource>>(name).Configure(configure);
        return services.AddSlidingWindowLimiter(name, keySelector, configure: (Action<KeyedSlidingWindowLimiterOptions<TResource>>?)null);
    }

    private static OptionsBuilder<TOptions> AddValidOptions<TOptions>(IServiceCollection services, string name)
        where TOptions : LimiterOptions, new()
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddSingleton<IOptionsFactory<TOptions>, LastValidOptionsFactory<TOptions>>();
        return services.AddOptions<TOptions>(name)
            .PostConfigure(options => options.Name = name.Length > 0 ? name : "default")
            .ValidateOnStart();
    }

    private static TokenBucketLimiter CreateTokenBucket(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<TokenBucketLimiterOptions>>();
        return Follow(monitor, name, new TokenBucketLimiter(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<TokenBucketLimiter>>()), static (limiter, options) => limiter.Update(options));
    }

    private static KeyedTokenBucketLimiter<TResource> CreateKeyedTokenBucket<TResource>(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<KeyedTokenBucketLimiterOptions<TResource>>>();
        return Follow(monitor, name, new KeyedTokenBucketLimiter<TResource>(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<KeyedTokenBucketLimiter<TResource>>>()), static (limiter, options) => limiter.Update(options));
    }

    private static SlidingWindowLimiter CreateSlidingWindow(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<SlidingWindowLimiterOptions>>();
        return Follow(monitor, name, new SlidingWindowLimiter(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<SlidingWindowLimiter>>()), static (limiter, options) => limiter.Update(options));
    }

    private static KeyedSlidingWindowLimiter<TResource> CreateKeyedSlidingWindow<TResource>(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<KeyedSlidingWindowLimiterOptions<TResource>>>();
        return Follow(monitor, name, new KeyedSlidingWindowLimiter<TResource>(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<KeyedSlidingWindowLimiter<TResource>>>()), static (limiter, options) => limiter.Update(options));
    }

    private static TLimiter Follow<TLimiter, TOptions>(IOptionsMonitor<TOptions> monitor, string name, TLimiter limiter, Action<TLimiter, TOptions> update)
    {
        var gate = new Lock();
        monitor.OnChange((_, changed) =>
        {
            if (changed == name)
            {
                Take();
            }
        });

        // A reload may have come before anybody listened.
        Take();
        return limiter;

        // One after the other, and each what is newest: of two reloads at once, the older must not stay.
        void Take()
        {
            lock (gate)
            {
                update(limiter, monitor.Get(name));
            }
        }
    }
}
