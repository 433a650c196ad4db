using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Idempotency;

/// <summary>
/// Registers executors and the store in memory as singletons, keyed by name. An executor takes the <see cref="IIdempotencyStore"/> that is registered under its own name, else the one without
/// a name, else one in memory, which all of these share. Options are validated at start-up, may be bound from configuration under the same name, and reach the live instance
/// when they reload; a <see cref="TimeProvider"/> and a logger are taken from the container.
/// </summary>
public static class IdempotencyServiceCollectionExtensions
{
    /// <summary>Adds an <see cref="IdempotentExecutor"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddIdempotency(this IServiceCollection services, Action<IdempotencyOptions>? configure = null)
    {
        AddValidOptions<IdempotencyOptions>(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton<SharedMemory>();
        services.TryAddSingleton(static provider => CreateExecutor(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds an <see cref="IdempotentExecutor"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddIdempotency(this IServiceCollection services, Action<IdempotencyOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<IdempotencyOptions>(Options.DefaultName).Configure(configure);
        return services.AddIdempotency();
    }

    /// <summary>Adds an <see cref="IdempotentExecutor"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options, the operation that the keys belong to and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddIdempotency(this IServiceCollection services, string name, Action<IdempotencyOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions<IdempotencyOptions>(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton<SharedMemory>();
        services.TryAddKeyedSingleton(name, static (provider, key) => CreateExecutor(provider, (string)key!));
        return services;
    }

    /// <summary>Adds an <see cref="IdempotentExecutor"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options, the operation that the keys belong to and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddIdempotency(this IServiceCollection services, string name, Action<IdempotencyOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<IdempotencyOptions>(name).Configure(configure);
        return services.AddIdempotency(name);
    }

    /// <summary>Adds a <see cref="MemoryIdempotencyStore"/> as the plain <see cref="IIdempotencyStore"/>, unless there is one: memory will do, also outside Development.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddMemoryIdempotencyStore(this IServiceCollection services, Action<MemoryIdempotencyStoreOptions>? configure = null)
    {
        AddValidOptions<MemoryIdempotencyStoreOptions>(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton<IIdempotencyStore>(static provider => CreateStore(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="MemoryIdempotencyStore"/> as the plain <see cref="IIdempotencyStore"/>, unless there is one: memory will do, also outside Development.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddMemoryIdempotencyStore(this IServiceCollection services, Action<MemoryIdempotencyStoreOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<MemoryIdempotencyStoreOptions>(Options.DefaultName).Configure(configure);
        return services.AddMemoryIdempotencyStore();
    }

    /// <summary>Adds a <see cref="MemoryIdempotencyStore"/> as the <see cref="IIdempotencyStore"/> keyed by <paramref name="name"/>, for the executor of that name.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddMemoryIdempotencyStore(this IServiceCollection services, string name, Action<MemoryIdempotencyStoreOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions<MemoryIdempotencyStoreOptions>(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton<IIdempotencyStore>(name, static (provider, key) => CreateStore(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="MemoryIdempotencyStore"/> as the <see cref="IIdempotencyStore"/> keyed by <paramref name="name"/>, for the executor of that name.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddMemoryIdempotencyStore(this IServiceCollection services, string name, Action<MemoryIdempotencyStoreOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<MemoryIdempotencyStoreOptions>(name).Configure(configure);
        return services.AddMemoryIdempotencyStore(name);
    }

    private static OptionsBuilder<TOptions> AddValidOptions<[DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicParameterlessConstructor)] TOptions>(IServiceCollection services, string name)
        where TOptions : class, IValidOptions, new()
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddSingleton<IOptionsFactory<TOptions>, LastValidOptionsFactory<TOptions>>();
        return services.AddOptions<TOptions>(name)
            .PostConfigure(options => options.Name = name.Length > 0 ? name : "default")
            .ValidateOnStart();
    }

    private static IdempotentExecutor CreateExecutor(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<IdempotencyOptions>>();
        IdempotencyOptions first = monitor.Get(name);
        var logger = provider.GetService<ILogger<IdempotentExecutor>>();
        IIdempotencyStore? store = (name.Length > 0 ? provider.GetKeyedService<IIdempotencyStore>(name) : null) ?? provider.GetService<IIdempotencyStore>();
        if (store is null)
        {
            store = provider.GetRequiredService<SharedMemory>().Store;
            if (logger is not null && provider.GetService<IHostEnvironment>()?.IsDevelopment() != true)
            {
                Log.MemoryStoreOutsideDevelopment(logger, first.Name);
            }
        }

        var executor = new IdempotentExecutor(store, first, provider.GetService<TimeProvider>(), logger);
        return Follow(monitor, name, executor, static (live, options) => live.Update(options));
    }

    private static MemoryIdempotencyStore CreateStore(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<MemoryIdempotencyStoreOptions>>();
        var store = new MemoryIdempotencyStore(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<MemoryIdempotencyStore>>());
        return Follow(monitor, name, store, static (live, options) => live.Update(options));
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

    /// <summary>The store of all executors that were given none.</summary>
    private sealed class SharedMemory(IServiceProvider provider)
    {
        public MemoryIdempotencyStore Store { get; } = new(
            new MemoryIdempotencyStoreOptions { Name = "default" }, provider.GetService<TimeProvider>(), provider.GetService<ILogger<MemoryIdempotencyStore>>());
    }
}
