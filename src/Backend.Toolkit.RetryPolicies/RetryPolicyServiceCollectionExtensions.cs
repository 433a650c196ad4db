using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.RetryPolicies;

/// <summary>
/// Registers retry policies and budgets as singletons, keyed by name. Their options are validated at start-up, may be bound from configuration
/// under the same name, and reach the live instance when they reload; a <see cref="TimeProvider"/> and a logger are taken from the container.
/// </summary>
public static class RetryPolicyServiceCollectionExtensions
{
    /// <summary>Adds a <see cref="RetryPolicy"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRetryPolicy(this IServiceCollection services, Action<RetryPolicyOptions>? configure = null)
    {
        AddValidOptions<RetryPolicyOptions>(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton(static provider => Create(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="RetryPolicy"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRetryPolicy(this IServiceCollection services, Action<RetryPolicyOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<RetryPolicyOptions>(Options.DefaultName).Configure(configure);
        return services.AddRetryPolicy();
    }

    /// <summary>Adds a <see cref="RetryPolicy"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRetryPolicy(this IServiceCollection services, string name, Action<RetryPolicyOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions<RetryPolicyOptions>(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton(name, static (provider, key) => Create(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="RetryPolicy"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRetryPolicy(this IServiceCollection services, string name, Action<RetryPolicyOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<RetryPolicyOptions>(name).Configure(configure);
        return services.AddRetryPolicy(name);
    }

    /// <summary>Adds a <see cref="RetryBudget"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRetryBudget(this IServiceCollection services, Action<RetryBudgetOptions>? configure = null)
    {
        AddValidOptions<RetryBudgetOptions>(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton(static provider => CreateBudget(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="RetryBudget"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRetryBudget(this IServiceCollection services, Action<RetryBudgetOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<RetryBudgetOptions>(Options.DefaultName).Configure(configure);
        return services.AddRetryBudget();
    }

    /// <summary>Adds a <see cref="RetryBudget"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRetryBudget(this IServiceCollection services, string name, Action<RetryBudgetOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions<RetryBudgetOptions>(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton(name, static (provider, key) => CreateBudget(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="RetryBudget"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRetryBudget(this IServiceCollection services, string name, Action<RetryBudgetOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<RetryBudgetOptions>(name).Configure(configure);
        return services.AddRetryBudget(name);
    }

    private static OptionsBuilder<TOptions> AddValidOptions<TOptions>(IServiceCollection services, string name)
        where TOptions : class, IValidOptions, new()
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddSingleton<IOptionsFactory<TOptions>, LastValidOptionsFactory<TOptions>>();
        return services.AddOptions<TOptions>(name)
            .PostConfigure(options => options.Name = name.Length > 0 ? name : "default")
            .ValidateOnStart();
    }

    private static RetryPolicy Create(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<RetryPolicyOptions>>();
        var policy = new RetryPolicy(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<RetryPolicy>>());
        return Follow(monitor, name, policy, static (live, options) => live.Update(options));
    }

    private static RetryBudget CreateBudget(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<RetryBudgetOptions>>();
        var budget = new RetryBudget(monitor.Get(name), provider.GetService<TimeProvider>());
        return Follow(monitor, name, budget, static (live, options) => live.Update(options));
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
