using System.Collections.Concurrent;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>The verifier and the replay guard of each name that endpoints use. Both follow their own reloads.</summary>
internal sealed class Receivers(IServiceProvider services)
{
    private readonly ConcurrentDictionary<string, Lazy<Receiver>> _receivers = new(StringComparer.Ordinal);

    public Receiver Of(string name) => _receivers.GetOrAdd(name, key => new Lazy<Receiver>(() => Find(key), LazyThreadSafetyMode.PublicationOnly)).Value;

    public static WebhookVerifier Verifier(IServiceProvider services, string name) => services.GetKeyedService<WebhookVerifier>(name)
        ?? throw new InvalidOperationException($"There is no webhook verifier '{name}'. Register one: services.AddWebhookVerifier(\"{name}\", options => …).");

    private Receiver Find(string name)
    {
        WebhookVerifier verifier = Verifier(services, name);

        // A receiver that nobody thought of replays for is guarded all the same.
        WebhookReplayGuard guard = services.GetKeyedService<WebhookReplayGuard>(name)
            ?? services.GetService<WebhookReplayGuard>()
            ?? new WebhookReplayGuard(new WebhookReplayGuardOptions { Name = name }, services.GetService<TimeProvider>(), services.GetService<ILogger<WebhookReplayGuard>>());
        return new Receiver(verifier, guard);
    }

    internal sealed record Receiver(WebhookVerifier Verifier, WebhookReplayGuard Guard);
}
