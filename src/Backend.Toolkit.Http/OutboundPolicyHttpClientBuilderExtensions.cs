using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Http;

/// <summary>Puts an <see cref="OutboundPolicy"/> before a client of <c>AddHttpClient</c>.</summary>
public static class OutboundPolicyHttpClientBuilderExtensions
{
    private static TimeSpan DefaultClientTimeout { get; } = TimeSpan.FromSeconds(100);

    /// <summary>
    /// Adds the handler, and the policy as a singleton keyed by the client's name: circuits and retry budget outlive the handlers, which the factory
    /// renews. Options are validated at start-up, may be bound from configuration under the client's name, and reach the live policy when they reload.
    /// A client whose <see cref="HttpClient.Timeout"/> is still 100 s gets an infinite one, so that the budget decides.
    /// </summary>
    /// <param name="builder">The client. Handlers added before this one see one call, those added after it each attempt.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The builder.</returns>
    public static IHttpClientBuilder AddOutboundPolicy(this IHttpClientBuilder builder, Action<OutboundPolicyOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(builder);
        return Add(builder).ConfigureOptions(options => options.Configure(configure ?? (static _ => { })));
    }

    /// <summary>As the other overload, with the container at hand.</summary>
    /// <param name="builder">The client.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The builder.</returns>
    public static IHttpClientBuilder AddOutboundPolicy(this IHttpClientBuilder builder, Action<OutboundPolicyOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(builder);
        ArgumentNullException.ThrowIfNull(configure);
        return Add(builder).ConfigureOptions(options => options.Configure(configure));
    }

    private static IHttpClientBuilder ConfigureOptions(this IHttpClientBuilder builder, Action<OptionsBuilder<OutboundPolicyOptions>> configure)
    {
        configure(builder.Services.AddOptions<OutboundPolicyOptions>(builder.Name));
        return builder;
    }

    private static IHttpClientBuilder Add(IHttpClientBuilder builder)
    {
        // The builder of ConfigureHttpClientDefaults has no name, whatever its type says.
        string name = builder.Name
            ?? throw new NotSupportedException("An outbound policy belongs to one client: call AddOutboundPolicy after AddHttpClient(name), not in ConfigureHttpClientDefaults.");
        IServiceCollection services = builder.Services;
        services.TryAddSingleton<IOptionsFactory<OutboundPolicyOptions>, LastValidOptionsFactory>();
        if (services.Any(service => service.ServiceType == typeof(OutboundPolicy) && Equals(service.ServiceKey, name)))
        {
            // A second call only adds to the options: one policy, one handler.
            return builder;
        }

        services.AddOptions<OutboundPolicyOptions>(name)
            .PostConfigure(options => options.Name = name.Length > 0 ? name : "default")
            .ValidateOnStart();
        services.AddKeyedSingleton(name, static (provider, key) => Create(provider, (string)key!));
        services.PostConfigure<HttpClientFactoryOptions>(name, static options => options.HttpClientActions.Add(static client =>
        {
            if (client.Timeout == DefaultClientTimeout)
            {
                client.Timeout = Timeout.InfiniteTimeSpan;
            }
        }));
        return builder.AddHttpMessageHandler(provider => new OutboundPolicyHandler(provider.GetRequiredKeyedService<OutboundPolicy>(name)));
    }

    private static OutboundPolicy Create(IServiceProvider provider, string name)
    {
        var monitor = provider.GetRequiredService<IOptionsMonitor<OutboundPolicyOptions>>();
        var policy = new OutboundPolicy(monitor.Get(name), provider.GetService<TimeProvider>(), provider.GetService<ILogger<OutboundPolicy>>());
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
        return policy;

        // One after the other, and each what is newest: of two reloads at once, the older must not stay.
        void Take()
        {
            lock (gate)
            {
                policy.Update(monitor.Get(name));
            }
        }
    }
}
