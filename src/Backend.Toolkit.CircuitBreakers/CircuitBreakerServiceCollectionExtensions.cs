using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.CircuitBreakers;

/// <summary>
/// Registers circuit breakers as singletons, keyed by name. Their options are validated at start-up, may be bound from configuration under
/// the same name, and reach the live instance when they reload; a <see cref="TimeProvider"/> and a logger are taken from the container.
/// </summary>
public static class CircuitBreakerServiceCollectionExtensions
{
    /// <summary>Adds a <see cref="CircuitBreaker"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddCircuitBreaker(this IServiceCollection services, Action<CircuitBreakerOptions>? configure = null)
    {
        AddValidOptions<CircuitBreakerOptions>(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton(static provider => Create(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="CircuitBreaker"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddCircuitBreaker(this IServiceCollection services, Action<CircuitBreakerOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<CircuitBreakerOptions>(Options.DefaultName).Configure(configure);
        return services.AddCircuitBreaker();
    }

    /// <summary>Adds a <see cref="CircuitBreaker"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddCircuitBreaker(this IServiceCollection services, string name, Action<CircuitBreakerOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions<CircuitBreakerOptions>(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton(name, static (provider, key) => Create(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="CircuitBreaker"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddCircuitBreaker(this IServiceCollection services, string name, Action<CircuitBreakerOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<CircuitBreakerOptions>(name).Configure(configure);
        return services.AddCircuitBreaker(name);
    }

    /// <summary>Adds a <see cref="CircuitBreakerGroup{TKey}"/> as a plain singleton.</summary>
    /// <typeparam name="TKey">The key of a circuit: a host, a tenant.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddCircuitBreakerGroup<TKey>(this IServiceCollection services, Action<CircuitBreakerGroupOptions>? configure = null)
        where TKey : notnull
    {
        AddValidOptions<CircuitBreakerGroupOptions>(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton(static provider => CreateGroup<TKey>(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="CircuitBreakerGroup{TKey}"/> as a plain singleton.</summary>
    /// <typeparam name="TKey">The key of a circuit: a host, a tenant.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddCircuitBreakerGroup<TKey>(this IServiceCollection services, Action<CircuitBreakerGroupOptions, IServiceProvider> configure)
        where TKey : notnull
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<CircuitBreakerGroupOptions>(Options.DefaultName).Configure(configure);
        return services.AddCircuitBreakerGroup<TKey>();
    }

    /// <summary>Adds a <see cref="CircuitBreakerGroup{TKey}"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <typeparam name="TKey">The key of a circuit: a host, a tenant.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddCircuitBreakerGroup<TKey>(this IServiceCollection services, string name, Action<CircuitBreakerGroupOptions>? configure = null)
        where TKey : notnull
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions<CircuitBreakerGroupOptions>(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton(name, static (provider, key) => CreateGroup<TKey>(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="CircuitBreakerGroup{TKey}"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <typeparam name="TKey">The key of a circuit: a host, a tenant.</typeparam>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddCircuitBreakerGroup<TKey>(
        this IServiceCollection services, string name, Action<CircuitBreakerGroupOptions, IServiceProvider> configure)
        where TKey : notnull
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<CircuitBreakerGroupOptions>(name).Configure(configure);
        return services.AddCircuitBreakerGroup<TKey>(name);
    }

    private static OptionsBuilder<TOptions> AddValidOptions<TOptions>(IServiceCollection services, string name)
        where TOptions : CircuitBreakerOptions, new()
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddSingleton<IOptionsFactory<TOptions>, LastValidOptionsFactory<TOptions>>();
        return services.AddOptions<TOptions>(name)
            .PostConfigure(options => options.Name = name.Length > 0 ? name : "default")
            .ValidateOnStart();
    }

    private static CircuitBreaker Create(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<CircuitBreakerOptions>>();
        var breaker = new CircuitBreaker(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<CircuitBreaker>>());
        return Follow(monitor, name, breaker, static (live, options) => live.Update(options));
    }

    private static CircuitBreakerGroup<TKey> CreateGroup<TKey>(IServiceProvider provider, string name)
        where TKey : notnull
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<CircuitBreakerGroupOptions>>();
        var group = new CircuitBreakerGroup<TKey>(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<CircuitBreaker>>());
        return Follow(monitor, name, group, static (live, options) => live.Update(options));
    }

    private static TLive Follow<TLive, TOptions>(IOptionsMonitor<TOptions> monitor, string name, TLive live, Action<TLive, TOptions> update)
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
        return live;

        // One after the other, and each what is newest: of two reloads at once, the older must not stay.
        void Take()
        {
            lock (gate)
            {
                update(live, monitor.Get(name));
            }
        }
    }
}
