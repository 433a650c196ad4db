using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>
/// Registers outbox, endpoints, deliveries and the worker, which runs with the host. The <see cref="IWebhookDeliveryStore"/> is registered by the package of the store; without one the host does not start. Options are validated at
/// start-up, may be bound from configuration, and reach the live instances when they reload; a <see cref="TimeProvider"/> and a logger are taken from the container.
/// </summary>
public static class WebhookDeliveryServiceCollectionExtensions
{
    private const string NoStore = "No store for webhook deliveries is registered. Call services.AddSqliteWebhookDeliveryStore(…) (package Backend.Toolkit.Webhooks.Delivery.Sqlite) "
        + "or services.AddPostgreSqlWebhookDeliveryStore(…) (package Backend.Toolkit.Webhooks.Delivery.PostgreSql).";

    /// <summary>Adds <see cref="WebhookOutbox"/>, <see cref="WebhookEndpoints"/>, <see cref="WebhookDeliveries"/> and <see cref="WebhookDeliveryWorker"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookDelivery(this IServiceCollection services, Action<WebhookDeliveryOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddSingleton<IOptionsFactory<WebhookDeliveryOptions>, LastValidOptionsFactory<WebhookDeliveryOptions>>();
        services.AddOptions<WebhookDeliveryOptions>()
            .Configure(configure ?? (static _ => { }))
            .PostConfigure(static options => options.Name = "default")
            .ValidateOnStart();
        services.TryAddSingleton(CreateWorker);
        services.TryAddSingleton(static provider => new WebhookOutbox(Store(provider), provider.GetRequiredService<WebhookDeliveryWorker>()) { Name = "default" });
        services.TryAddSingleton(static provider => new WebhookDeliveries(Store(provider), provider.GetRequiredService<WebhookDeliveryWorker>()));
        services.TryAddSingleton(CreateEndpoints);
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IHostedService, HostedWorker>());
        return services;
    }

    /// <summary>Adds <see cref="WebhookOutbox"/>, <see cref="WebhookEndpoints"/>, <see cref="WebhookDeliveries"/> and <see cref="WebhookDeliveryWorker"/>.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookDelivery(this IServiceCollection services, Action<WebhookDeliveryOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<WebhookDeliveryOptions>().Configure(configure);
        return services.AddWebhookDelivery();
    }

    private static IWebhookDeliveryStore Store(IServiceProvider provider) => provider.GetService<IWebhookDeliveryStore>() ?? throw new InvalidOperationException(NoStore);

    private static WebhookDeliveryWorker CreateWorker(IServiceProvider provider)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<WebhookDeliveryOptions>>();
        WebhookDeliveryOptions first = monitor.CurrentValue;
        var logger = provider.GetService<ILogger<WebhookDeliveryWorker>>();
        var worker = new WebhookDeliveryWorker(first, Store(provider), provider.GetService<TimeProvider>(), logger);
        if (first.Protect is null && logger is not null && provider.GetService<IHostEnvironment>()?.IsDevelopment() != true)
        {
            Log.SecretsAreNotProtected(logger, first.Name);
        }

        Follow(monitor, worker.Update);
        return worker;
    }

    private static WebhookEndpoints CreateEndpoints(IServiceProvider provider)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<WebhookDeliveryOptions>>();
        var endpoints = new WebhookEndpoints(monitor.CurrentValue, Store(provider), provider.GetService<TimeProvider>(), provider.GetRequiredService<WebhookDeliveryWorker>());
        Follow(monitor, endpoints.Update);
        return endpoints;
    }

    private static void Follow(IOptionsMonitor<WebhookDeliveryOptions> monitor, Action<WebhookDeliveryOptions> update)
    {
        var gate = new Lock();
        monitor.OnChange((_, changed) =>
        {
            if (changed == Options.DefaultName)
            {
                Take();
            }
        });

        // A reload may have come before anybody listened.
        Take();

        // One after the other, and each what is newest: of two reloads at once, the older must not stay.
        void Take()
        {
            lock (gate)
            {
                update(monitor.CurrentValue);
            }
        }
    }

    /// <summary>Makes the worker when it is started: a host makes its services before it validates options, and bad ones of the worker would hide those of all others.</summary>
    private sealed class HostedWorker(IServiceProvider provider) : IHostedService
    {
        private WebhookDeliveryWorker? _worker;

        public Task StartAsync(CancellationToken cancellationToken)
        {
            _worker = provider.GetRequiredService<WebhookDeliveryWorker>();
            return _worker.StartAsync(cancellationToken);
        }

        public Task StopAsync(CancellationToken cancellationToken) => _worker?.StopAsync(cancellationToken) ?? Task.CompletedTask;
    }
}
