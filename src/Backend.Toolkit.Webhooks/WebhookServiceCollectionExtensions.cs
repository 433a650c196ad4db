using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Webhooks;

/// <summary>
/// Registers verifiers, signers and replay guards as singletons, keyed by name. Options are validated at start-up, may be bound from configuration under the same name, and reach the live instance when they reload; a
/// <see cref="TimeProvider"/> and a logger are taken from the container.
/// </summary>
public static class WebhookServiceCollectionExtensions
{
    /// <summary>Adds a <see cref="WebhookVerifier"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookVerifier(this IServiceCollection services, Action<WebhookVerifierOptions>? configure = null)
    {
        AddValidOptions<WebhookVerifierOptions>(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton(static provider => CreateWebhookVerifier(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="WebhookVerifier"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookVerifier(this IServiceCollection services, Action<WebhookVerifierOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<WebhookVerifierOptions>(Options.DefaultName).Configure(configure);
        return services.AddWebhookVerifier();
    }

    /// <summary>Adds a <see cref="WebhookVerifier"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookVerifier(this IServiceCollection services, string name, Action<WebhookVerifierOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions<WebhookVerifierOptions>(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton(name, static (provider, key) => CreateWebhookVerifier(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="WebhookVerifier"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookVerifier(this IServiceCollection services, string name, Action<WebhookVerifierOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<WebhookVerifierOptions>(name).Configure(configure);
        return services.AddWebhookVerifier(name);
    }

    /// <summary>Adds a <see cref="WebhookSigner"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookSigner(this IServiceCollection services, Action<WebhookSignerOptions>? configure = null)
    {
        AddValidOptions<WebhookSignerOptions>(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton(static provider => CreateWebhookSigner(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="WebhookSigner"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookSigner(this IServiceCollection services, Action<WebhookSignerOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<WebhookSignerOptions>(Options.DefaultName).Configure(configure);
        return services.AddWebhookSigner();
    }

    /// <summary>Adds a <see cref="WebhookSigner"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookSigner(this IServiceCollection services, string name, Action<WebhookSignerOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions<WebhookSignerOptions>(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton(name, static (provider, key) => CreateWebhookSigner(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="WebhookSigner"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookSigner(this IServiceCollection services, string name, Action<WebhookSignerOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<WebhookSignerOptions>(name).Configure(configure);
        return services.AddWebhookSigner(name);
    }

    /// <summary>Adds a <see cref="WebhookReplayGuard"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookReplayGuard(this IServiceCollection services, Action<WebhookReplayGuardOptions>? configure = null)
    {
        AddValidOptions<WebhookReplayGuardOptions>(services, Options.DefaultName).Configure(configure ?? (static _ => { }));
        services.TryAddSingleton(static provider => CreateWebhookReplayGuard(provider, Options.DefaultName));
        return services;
    }

    /// <summary>Adds a <see cref="WebhookReplayGuard"/> as a plain singleton.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookReplayGuard(this IServiceCollection services, Action<WebhookReplayGuardOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<WebhookReplayGuardOptions>(Options.DefaultName).Configure(configure);
        return services.AddWebhookReplayGuard();
    }

    /// <summary>Adds a <see cref="WebhookReplayGuard"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookReplayGuard(this IServiceCollection services, string name, Action<WebhookReplayGuardOptions>? configure = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        AddValidOptions<WebhookReplayGuardOptions>(services, name).Configure(configure ?? (static _ => { }));
        services.TryAddKeyedSingleton(name, static (provider, key) => CreateWebhookReplayGuard(provider, (string)key!));
        return services;
    }

    /// <summary>Adds a <see cref="WebhookReplayGuard"/> as a singleton keyed by <paramref name="name"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="name">The service key, the name of the options and the label on metrics.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookReplayGuard(this IServiceCollection services, string name, Action<WebhookReplayGuardOptions, IServiceProvider> configure)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(name);
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<WebhookReplayGuardOptions>(name).Configure(configure);
        return services.AddWebhookReplayGuard(name);
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

    private static WebhookVerifier CreateWebhookVerifier(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<WebhookVerifierOptions>>();
        return Follow(monitor, name, new WebhookVerifier(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<WebhookVerifier>>()), static (live, options) => live.Update(options));
    }

    private static WebhookSigner CreateWebhookSigner(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<WebhookSignerOptions>>();
        return Follow(monitor, name, new WebhookSigner(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<WebhookSigner>>()), static (live, options) => live.Update(options));
    }

    private static WebhookReplayGuard CreateWebhookReplayGuard(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<WebhookReplayGuardOptions>>();
        return Follow(monitor, name, new WebhookReplayGuard(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<WebhookReplayGuard>>()), static (live, options) => live.Update(options));
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

        // One after the other, and each what is newest: of two reloads at once, the older must not stay, whose keys may have been taken back.
        void Take()
        {
            lock (gate)
            {
                update(live, monitor.Get(name));
            }
        }
    }
}
