using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>
/// Registers what <c>UseIdempotency</c> needs beside the executors: its options, which are validated at start-up, may be bound from configuration, and reach the running middleware when
/// they reload; and the guard that makes endpoints with an <see cref="IdempotentAttribute"/> fail where the middleware does not run.
/// </summary>
public static class HttpIdempotencyServiceCollectionExtensions
{
    /// <summary>Adds what <c>UseIdempotency</c> needs beside the executors.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddHttpIdempotency(this IServiceCollection services, Action<HttpIdempotencyOptions>? configure = null)
    {
        Add(services).Configure(configure ?? (static _ => { }));
        return services;
    }

    /// <summary>Adds what <c>UseIdempotency</c> needs beside the executors.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddHttpIdempotency(this IServiceCollection services, Action<HttpIdempotencyOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        Add(services).Configure(configure);
        return services;
    }

    private static OptionsBuilder<HttpIdempotencyOptions> Add(IServiceCollection services)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.AddRouting();
        services.TryAddEnumerable(ServiceDescriptor.Singleton<MatcherPolicy, IdempotencyGuard>());
        services.TryAddSingleton<IOptionsFactory<HttpIdempotencyOptions>, LastValidOptionsFactory>();
        services.TryAddSingleton(static provider =>
        {
            var monitor = provider.GetRequiredService<IOptionsMonitor<HttpIdempotencyOptions>>();
            var inForce = new HttpIdempotencyInForce(monitor.CurrentValue);
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
        return services.AddOptions<HttpIdempotencyOptions>().ValidateOnStart();
    }
}
