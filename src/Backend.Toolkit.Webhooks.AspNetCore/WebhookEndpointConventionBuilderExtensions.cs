using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>Says which endpoints receive webhooks.</summary>
public static class WebhookEndpointConventionBuilderExtensions
{
    /// <summary>
    /// Verifies the requests of these endpoints, whatever their method, before anything binds them, and handles each message once. What is said nearest to an endpoint holds. A request for which
    /// <c>UseWebhookVerification</c> did not run fails with an <see cref="InvalidOperationException"/>.
    /// </summary>
    /// <typeparam name="TBuilder">The type of <paramref name="builder"/>.</typeparam>
    /// <param name="builder">An endpoint, a group, or all controllers.</param>
    /// <param name="verifier">The name given to <c>AddWebhookVerifier</c>.</param>
    /// <param name="guardReplays">
    /// Whether a message is handled once: by the guard of the verifier's name, else the one without a name, else one in memory with the defaults. Otherwise every request with a valid signature is handled.
    /// </param>
    /// <param name="eventId">Reads the event's id in the verified body, 1 to 64 characters: where the sender signs each attempt anew (Stripe, Slack), its retries are told by that. Null, or a result of null: by what was signed.</param>
    /// <returns>The builder.</returns>
    public static TBuilder VerifyWebhook<TBuilder>(this TBuilder builder, string verifier, bool guardReplays = true, Func<VerifiedWebhook, ValueTask<string?>>? eventId = null)
        where TBuilder : IEndpointConventionBuilder
    {
        ArgumentNullException.ThrowIfNull(builder);
        var attribute = new VerifyWebhookAttribute(verifier) { GuardReplays = guardReplays, EventId = eventId };
        builder.Add(endpoint => endpoint.Metadata.Add(attribute));
        builder.Finally(Guard);
        return builder;
    }

    private static void Guard(EndpointBuilder endpoint)
    {
        // What the fallback is replaced by does not get its metadata.
        if (endpoint.Metadata.OfType<IDynamicEndpointMetadata>().Any(dynamic => dynamic.IsDynamic))
        {
            throw new InvalidOperationException(
                $"VerifyWebhook does not hold for {endpoint.DisplayName}, which routing replaces by a controller or a page. Put [VerifyWebhook] on that, for which UseWebhookVerification() looks.");
        }

        if (endpoint.RequestDelegate is { } next && !endpoint.Metadata.OfType<WebhookGuard.LooksItself>().Any())
        {
            VerifyWebhookAttribute? own = endpoint.Metadata.OfType<VerifyWebhookAttribute>().LastOrDefault();
            string? name = endpoint.DisplayName;
            endpoint.Metadata.Add(WebhookGuard.LooksItself.Instance);
            endpoint.RequestDelegate = context =>
            {
                RequestWebhook.ThrowIfNotVerified(context, own, name);
                return next(context);
            };
        }
    }
}
