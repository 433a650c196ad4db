using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Npgsql;

namespace Backend.Toolkit.Idempotency.PostgreSql;

/// <summary>
/// Registers stores in PostgreSQL as singletons, keyed by name; an executor takes the one of its own name, else the one without a name. Options are validated at start-up, may be bound from
/// configuration under the same name, and reach the live instance when they reload; an <see cref="NpgsqlDataSource"/>, a <see cref="TimeProvider"/> and a logger are taken from the container.
/// </summary>
public static class PostgreSqlIdempotencyServiceCollectionExtensions
{
    /// <summary>Adds a <see cref="PostgreSqlIdempotencyStore"/> as the plain <see cref="IIdempotencyStore"/>, unless there is one.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddPostgreSqlIdempotencyStore(this IServiceCollection services, Action<PostgreSqlIdempotencyStoreOptions>? configure = null)
    {
        AddValidOptions(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton<IIdempotencyStore>(static provider => Create(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="PostgreSqlIdempotencyStore"/> as the plain <see cref="IIdempotencyStore"/>, unless there is one.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddPostgreSqlIdempotencyStore(this IServiceCollection services, Action<PostgreSqlIdempotencyStoreOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<PostgreSqlIdempotencyStoreOptions>(Options.DefaultName).Configure(configure);
        return services.AddPostgreSqlIdempotencyStore();
    }

    /// <summary>Adds a <see cref="PostgreSqlIdempotencyStore"/> as the <see cref="IIdempotencyStore"/> keyed by <paramref name="name"/>, for the executor of that name.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddPostgreSqlIdempotencyStore(this IServiceCollection services, string name, Action<PostgreSqlIdempotencyStoreOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton<IIdempotencyStore>(name, static (provider, key) => Create(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="PostgreSqlIdempotencyStore"/> as the <see cref="IIdempotencyStore"/> keyed by <paramref name="name"/>, for the executor of that name.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddPostgreSqlIdempotencyStore(this IServiceCollection services, string name, Action<PostgreSqlIdempotencyStoreOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<PostgreSqlIdempotencyStoreOptions>(name).Configure(configure);
        return services.AddPostgreSqlIdempotencyStore(name);
    }

    private static OptionsBuilder<PostgreSqlIdempotencyStoreOptions> AddValidOptions(IServiceCollection services, string name)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddSingleton<IOptionsFactory<PostgreSqlIdempotencyStoreOptions>, LastValidOptionsFactory>();
        return services.AddOptions<PostgreSqlIdempotencyStoreOptions>(name)
            .PostConfigure<IServiceProvider>((options, provider) =>
            {
                options.Name = name.Length > 0 ? name : "default";
                if (string.IsNullOrEmpty(options.ConnectionString))
                {
                    options.DataSource ??= provider.GetService<NpgsqlDataSource>();
                }
            })
            .ValidateOnStart();
    }

    private static PostgreSqlIdempotencyStore Create(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<PostgreSqlIdempotencyStoreOptions>>();
        var store = new PostgreSqlIdempotencyStore(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<PostgreSqlIdempotencyStore>>());
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
