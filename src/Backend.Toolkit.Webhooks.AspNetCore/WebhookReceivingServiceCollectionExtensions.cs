using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>
/// Registers what <c>UseWebhookVerification</c> needs beside the verifiers and replay guards: its options, which are validated at start-up, may be bound from configuration, and reach the running middleware when
/// they reload; and the guard that makes endpoints with a <see cref="VerifyWebhookAttribute"/> fail where the middleware does not run.
/// </summary>
public static class WebhookReceivingServiceCollectionExtensions
{
    /// <summary>Adds what <c>UseWebhookVerification</c> needs beside the verifiers and replay guards.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookReceiving(this IServiceCollection services, Action<WebhookReceivingOptions>? configure = null)
    {
        Add(services).Configure(configure ?? (static _ => { }));
        return services;
    }

    /// <summary>Adds what <c>UseWebhookVerification</c> needs beside the verifiers and replay guards.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddWebhookReceiving(this IServiceCollection services, Action<WebhookReceivingOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        Add(services).Configure(configure);
        return services;
    }

    private static OptionsBuilder<WebhookReceivingOptions> Add(IServiceCollection services)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.AddRouting();
        services.TryAddEnumerable(ServiceDescriptor.Singleton<MatcherPolicy, WebhookGuard>());
        services.TryAddSingleton<Receivers>();
        services.TryAddSingleton<IOptionsFactory<WebhookReceivingOptions>, LastValidOptionsFactory>();
        services.TryAddSingleton(static provider =>
        {
            var monitor = provider.GetRequiredService<IOptionsMonitor<WebhookReceivingOptions>>();
            var inForce = new WebhookReceivingInForce(monitor.CurrentValue);
            var gate = new Lock();
            monitor.OnChange((_, name) =>
            {
                if (string.IsNullOrEmpty(name))
                {
                    Take();
                }
            });

            // A reload may have come before anybody listened.
            Take();
            return inForce;

            // One after the other, and each what is newest: of two reloads at once, the older must not stay.
            void Take()
            {
                lock (gate)
                {
                    inForce.Update(monitor.CurrentValue);
                }
            }
        });
        return services.AddOptions<WebhookReceivingOptions>().ValidateOnStart();
    }
}
