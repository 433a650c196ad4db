using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.TimeoutBudgets;

/// <summary>
/// Registers timeout budgets as singletons, keyed by name. Their options are validated at start-up, may be bound from configuration under
/// the same name, and reach the live instance when they reload; a <see cref="TimeProvider"/> and a logger are taken from the container.
/// </summary>
public static class TimeoutBudgetServiceCollectionExtensions
{
    /// <summary>Adds a <see cref="TimeoutBudgetPolicy"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTimeoutBudget(this IServiceCollection services, Action<TimeoutBudgetOptions>? configure = null)
    {
        AddValidOptions(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton(static provider => Create(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="TimeoutBudgetPolicy"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTimeoutBudget(this IServiceCollection services, Action<TimeoutBudgetOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<TimeoutBudgetOptions>(Options.DefaultName).Configure(configure);
        return services.AddTimeoutBudget();
    }

    /// <summary>Adds a <see cref="TimeoutBudgetPolicy"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTimeoutBudget(this IServiceCollection services, string name, Action<TimeoutBudgetOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton(name, static (provider, key) => Create(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="TimeoutBudgetPolicy"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTimeoutBudget(this IServiceCollection services, string name, Action<TimeoutBudgetOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<TimeoutBudgetOptions>(name).Configure(configure);
        return services.AddTimeoutBudget(name);
    }

    private static OptionsBuilder<TimeoutBudgetOptions> AddValidOptions(IServiceCollection services, string name)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddSingleton<IOptionsFactory<TimeoutBudgetOptions>, LastValidOptionsFactory>();
        return services.AddOptions<TimeoutBudgetOptions>(name)
            .PostConfigure(options => options.Name = name.Length > 0 ? name : "default")
            .ValidateOnStart();
    }

    private static TimeoutBudgetPolicy Create(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<TimeoutBudgetOptions>>();
        var policy = new TimeoutBudgetPolicy(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<TimeoutBudgetPolicy>>());
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
        return policy;

        // One after the other, and each what is newest: of two reloads at once, the older must not stay.
        void Take()
        {
            lock (gate)
            {
                policy.Update(monitor.Get(name));
            }
        }
    }
}
