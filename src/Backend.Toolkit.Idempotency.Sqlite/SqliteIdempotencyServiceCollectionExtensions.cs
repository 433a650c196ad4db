using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Idempotency.Sqlite;

/// <summary>
/// Registers stores as singletons, keyed by name. Their options are validated at start-up, may be bound from configuration under the same name, and reach the live instance
/// when they reload; a <see cref="TimeProvider"/> and a logger are taken from the container.
/// </summary>
public static class SqliteIdempotencyServiceCollectionExtensions
{
    /// <summary>Adds a <see cref="SqliteIdempotencyStore"/> as the plain <see cref="IIdempotencyStore"/>, unless there is one.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSqliteIdempotencyStore(this IServiceCollection services, Action<SqliteIdempotencyStoreOptions>? configure = null)
    {
        AddValidOptions(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton<IIdempotencyStore>(static provider => Create(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="SqliteIdempotencyStore"/> as the plain <see cref="IIdempotencyStore"/>, unless there is one.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSqliteIdempotencyStore(this IServiceCollection services, Action<SqliteIdempotencyStoreOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<SqliteIdempotencyStoreOptions>(Options.DefaultName).Configure(configure);
        return services.AddSqliteIdempotencyStore();
    }

    /// <summary>Adds a <see cref="SqliteIdempotencyStore"/> as the <see cref="IIdempotencyStore"/> keyed by <paramref name="name"/>, for the executor of that name.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label in logs.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSqliteIdempotencyStore(this IServiceCollection services, string name, Action<SqliteIdempotencyStoreOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton<IIdempotencyStore>(name, static (provider, key) => Create(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="SqliteIdempotencyStore"/> as the <see cref="IIdempotencyStore"/> keyed by <paramref name="name"/>, for the executor of that name.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label in logs.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSqliteIdempotencyStore(this IServiceCollection services, string name, Action<SqliteIdempotencyStoreOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<SqliteIdempotencyStoreOptions>(name).Configure(configure);
        return services.AddSqliteIdempotencyStore(name);
    }

    private static OptionsBuilder<SqliteIdempotencyStoreOptions> AddValidOptions(IServiceCollection services, string name)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddSingleton<IOptionsFactory<SqliteIdempotencyStoreOptions>, LastValidOptionsFactory>();
        return services.AddOptions<SqliteIdempotencyStoreOptions>(name)
            .PostConfigure(options => options.Name = name.Length > 0 ? name : "default")
            .ValidateOnStart();
    }

    private static SqliteIdempotencyStore Create(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<SqliteIdempotencyStoreOptions>>();
        var store = new SqliteIdempotencyStore(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<SqliteIdempotencyStore>>());
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
