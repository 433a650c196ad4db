using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Mvc.ApiExplorer;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>
/// Sets how pages are asked for and linked. The options are validated at start-up, may be bound from configuration, and hold for the next request when they reload. Minimal APIs work without it, by the defaults;
/// controllers with a <see cref="PageQuery"/> need it.
/// </summary>
public static class HttpPaginationServiceCollectionExtensions
{
    /// <summary>Sets how pages are asked for and linked, and lets controllers answer bad cursors and sizes with problem details.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddHttpPagination(this IServiceCollection services, Action<HttpPaginationOptions>? configure = null)
    {
        AddValidOptions(services).Configure(configure ?? (static _ => { }));
        return services;
    }

    /// <summary>Sets how pages are asked for and linked, and lets controllers answer bad cursors and sizes with problem details.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddHttpPagination(this IServiceCollection services, Action<HttpPaginationOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        AddValidOptions(services).Configure(configure);
        return services;
    }

    private static OptionsBuilder<HttpPaginationOptions> AddValidOptions(IServiceCollection services)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddSingleton<IOptionsFactory<HttpPaginationOptions>, LastValidOptionsFactory>();
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IConfigureOptions<MvcOptions>, PageExceptionFilter>());
        services.TryAddEnumerable(ServiceDescriptor.Transient<IApiDescriptionProvider, PageQueryDescriptions>());
        return services.AddOptions<HttpPaginationOptions>().ValidateOnStart();
    }
}
