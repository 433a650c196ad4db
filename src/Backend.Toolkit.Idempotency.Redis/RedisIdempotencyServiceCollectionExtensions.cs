using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using StackExchange.Redis;

namespace Backend.Toolkit.Idempotency.Redis;

/// <summary>
/// Registers stores as singletons, keyed by name. Their options are validated at start-up, may be bound from configuration under the same name, and reach the live instance
/// when they reload; an <see cref="IConnectionMultiplexer"/>, a <see cref="TimeProvider"/> and a logger are taken from the container.
/// </summary>
public static class RedisIdempotencyServiceCollectionExtensions
{
    /// <summary>Adds a <see cref="RedisIdempotencyStore"/> as the plain <see cref="IIdempotencyStore"/>, unless there is one.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRedisIdempotencyStore(this IServiceCollection services, Action<RedisIdempotencyStoreOptions>? configure = null)
    {
        AddValidOptions(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton<IIdempotencyStore>(static provider => Create(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="RedisIdempotencyStore"/> as the plain <see cref="IIdempotencyStore"/>, unless there is one.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRedisIdempotencyStore(this IServiceCollection services, Action<RedisIdempotencyStoreOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<RedisIdempotencyStoreOptions>(Options.DefaultName).Configure(configure);
        return services.AddRedisIdempotencyStore();
    }

    /// <summary>Adds a <see cref="RedisIdempotencyStore"/> as the <see cref="IIdempotencyStore"/> keyed by <paramref name="name"/>, for the executor of that name.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label in logs. No part of the keys in Redis.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRedisIdempotencyStore(this IServiceCollection services, string name, Action<RedisIdempotencyStoreOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton<IIdempotencyStore>(name, static (provider, key) => Create(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="RedisIdempotencyStore"/> as the <see cref="IIdempotencyStore"/> keyed by <paramref name="name"/>, for the executor of that name.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label in logs. No part of the keys in Redis.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRedisIdempotencyStore(this IServiceCollection services, string name, Action<RedisIdempotencyStoreOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<RedisIdempotencyStoreOptions>(name).Configure(configure);
        return services.AddRedisIdempotencyStore(name);
    }

    private static OptionsBuilder<RedisIdempotencyStoreOptions> AddValidOptions(IServiceCollection services, string name)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddSingleton<IOptionsFactory<RedisIdempotencyStoreOptions>, LastValidOptionsFactory>();
        return services.AddOptions<RedisIdempotencyStoreOptions>(name)
            .PostConfigure<IServiceProvider>((options, provider) =>
            {
                options.Name = name.Length > 0 ? name : "default";
                options.Connection ??= provider.GetService<IConnectionMultiplexer>();
            })
            .ValidateOnStart();
    }

    private static RedisIdempotencyStore Create(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<RedisIdempotencyStoreOptions>>();
        var store = new RedisIdempotencyStore(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<RedisIdempotencyStore>>());
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
        return store;

        // One after the other, and each what is newest: of two reloads at once, the older must not stay.
        void Take()
        {
            lock (gate)
            {
                store.Update(monitor.Get(name));
            }
        }
    }
}
