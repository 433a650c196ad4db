using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Pagination;

/// <summary>
/// Registers cursor paginators as singletons, keyed by name. Their options are validated at start-up, may be bound from configuration under the same name, and reach the live instance
/// when they reload; a <see cref="TimeProvider"/> and a logger are taken from the container. Without a key the host does not start, but in the environment Development a random one is taken.
/// </summary>
public static class CursorPaginationServiceCollectionExtensions
{
    /// <summary>Adds a <see cref="CursorPaginator"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddCursorPagination(this IServiceCollection services, Action<CursorPaginatorOptions>? configure = null)
    {
        AddValidOptions(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton(static provider => Create(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="CursorPaginator"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddCursorPagination(this IServiceCollection services, Action<CursorPaginatorOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<CursorPaginatorOptions>(Options.DefaultName).Configure(configure);
        return services.AddCursorPagination();
    }

    /// <summary>Adds a <see cref="CursorPaginator"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddCursorPagination(this IServiceCollection services, string name, Action<CursorPaginatorOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton(name, static (provider, key) => Create(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="CursorPaginator"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddCursorPagination(this IServiceCollection services, string name, Action<CursorPaginatorOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<CursorPaginatorOptions>(name).Configure(configure);
        return services.AddCursorPagination(name);
    }

    private static OptionsBuilder<CursorPaginatorOptions> AddValidOptions(IServiceCollection services, string name)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddSingleton<IOptionsFactory<CursorPaginatorOptions>, LastValidOptionsFactory<CursorPaginatorOptions>>();
        return services.AddOptions<CursorPaginatorOptions>(name)
            .PostConfigure<IServiceProvider>((options, provider) =>
            {
                options.Name = name.Length > 0 ? name : "default";
                options.RandomKey |= options.Keys.Count == 0 && provider.GetService<IHostEnvironment>()?.IsDevelopment() == true;
            })
            .ValidateOnStart();
    }

    private static CursorPaginator Create(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<CursorPaginatorOptions>>();
        var paginator = new CursorPaginator(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<CursorPaginator>>());
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
        return paginator;

        // One after the other, and each what is newest: of two reloads at once, the older must not stay.
        void Take()
        {
            lock (gate)
            {
                paginator.Update(monitor.Get(name));
            }
        }
    }
}
