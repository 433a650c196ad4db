using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

/// <summary>
/// Sets the options of <c>UseTimeoutBudgets</c>. They are validated at start-up, may be bound from configuration, and reach the running
/// middleware when they reload.
/// </summary>
public static class RequestBudgetServiceCollectionExtensions
{
    /// <summary>Sets the options of <c>UseTimeoutBudgets</c>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTimeoutBudgets(this IServiceCollection services, Action<RequestBudgetOptions>? configure = null)
    {
        AddValidOptions(services).Configure(configure ?? (static _ => { }));
        return services;
    }

    /// <summary>Sets the options of <c>UseTimeoutBudgets</c>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddTimeoutBudgets(this IServiceCollection services, Action<RequestBudgetOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        AddValidOptions(services).Configure(configure);
        return services;
    }

    private static OptionsBuilder<RequestBudgetOptions> AddValidOptions(IServiceCollection services)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddSingleton<IOptionsFactory<RequestBudgetOptions>, LastValidOptionsFactory>();
        return services.AddOptions<RequestBudgetOptions>().ValidateOnStart();
    }
}
