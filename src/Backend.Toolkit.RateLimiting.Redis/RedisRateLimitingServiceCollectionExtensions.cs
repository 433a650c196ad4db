using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using StackExchange.Redis;

namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>
/// Registers limiters that nodes share as singletons, keyed by name. Their options are validated at start-up, may be bound from configuration under the same name, and reach the live instance
/// when they reload; an <see cref="IConnectionMultiplexer"/>, a <see cref="TimeProvider"/> and a logger are taken from the container.
/// </summary>
public static class RedisRateLimitingServiceCollectionExtensions
{
    /// <summary>Adds a <see cref="KeyedRateLimiter{TResource}"/> (<see cref="RedisTokenBucketLimiter{TResource}"/>) as a plain singleton.</summary>
    /// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="keySelector">By what is counted.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRedisTokenBucketLimiter<TResource>(this IServiceCollection services, Func<TResource, RateLimitKey> keySelector, Action<RedisTokenBucketLimiterOptions<TResource>>? configure = null)
    {
        AddValidOptions(services, Options.DefaultName, keySelector).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton<KeyedRateLimiter<TResource>>(static provider => Create<TResource>(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="KeyedRateLimiter{TResource}"/> (<see cref="RedisTokenBucketLimiter{TResource}"/>) as a plain singleton.</summary>
    /// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="keySelector">By what is counted.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRedisTokenBucketLimiter<TResource>(this IServiceCollection services, Func<TResource, RateLimitKey> keySelector, Action<RedisTokenBucketLimiterOptions<TResource>, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<RedisTokenBucketLimiterOptions<TResource>>(Options.DefaultName).Configure(configure);
        return services.AddRedisTokenBucketLimiter(keySelector, configure: (Action<RedisTokenBucketLimiterOptions<TResource>>?)null);
    }

    /// <summary>Adds a <see cref="KeyedRateLimiter{TResource}"/> (<see cref="RedisTokenBucketLimiter{TResource}"/>) as a singleton keyed by <paramref name="name"/>.</summary>
    /// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options, the label on metrics and a part of the keys in the store.</param>
    /// <param name="keySelector">By what is counted.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRedisTokenBucketLimiter<TResource>(this IServiceCollection services, string name, Func<TResource, RateLimitKey> keySelector, Action<RedisTokenBucketLimiterOptions<TResource>>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions(services, name, keySelector).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton<KeyedRateLimiter<TResource>>(name, static (provider, key) => Create<TResource>(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="KeyedRateLimiter{TResource}"/> (<see cref="RedisTokenBucketLimiter{TResource}"/>) as a singleton keyed by <paramref name="name"/>.</summary>
    /// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options, the label on metrics and a part of the keys in the store.</param>
    /// <param name="keySelector">By what is counted.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRedisTokenBucketLimiter<TResource>(this IServiceCollection services, string name, Func<TResource, RateLimitKey> keySelector, Action<RedisTokenBucketLimiterOptions<TResource>, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<RedisTokenBucketLimiterOptions<TResource>>(name).Configure(configure);
        return services.AddRedisTokenBucketLimiter(name, keySelector, configure: (Action<RedisTokenBucketLimiterOptions<TResource>>?)null);
    }

    private static OptionsBuilder<RedisTokenBucketLimiterOptions<TResource>> AddValidOptions<TResource>(IServiceCollection services, string name, Func<TResource, RateLimitKey> keySelector)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(keySelector);
        services.TryAddSingleton<IOptionsFactory<RedisTokenBucketLimiterOptions<TResource>>, LastValidOptionsFactory<TResource>>();
        return services.AddOptions<RedisTokenBucketLimiterOptions<TResource>>(name)
            .Configure(options => options.KeySelector = keySelector)
            .PostConfigure<IServiceProvider>((options, provider) =>
            {
                options.Name = name.Length > 0 ? name : "default";
                options.Connection ??= provider.GetService<IConnectionMultiplexer>();
            })
            .ValidateOnStart();
    }

    private static RedisTokenBucketLimiter<TResource> Create<TResource>(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<RedisTokenBucketLimiterOptions<TResource>>>();
        var limiter = new RedisTokenBucketLimiter<TResource>(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<RedisTokenBucketLimiter<TResource>>>());
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
                limiter.Update(monitor.Get(name));
            }
        }
    }
}
