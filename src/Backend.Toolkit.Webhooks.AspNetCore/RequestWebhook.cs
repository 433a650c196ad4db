using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>Says that a request was verified, and under which attribute: a feature of the <see cref="HttpContext"/>.</summary>
internal sealed class RequestWebhook(VerifyWebhookAttribute attribute, VerifiedWebhook webhook)
{
    public VerifiedWebhook Webhook => webhook;

    public bool IsOf(VerifyWebhookAttribute own) => ReferenceEquals(own, attribute);

    /// <summary>Metadata alone would pass unnoticed where the middleware did not run, so the endpoint itself looks.</summary>
    public static void ThrowIfNotVerified(HttpContext context, VerifyWebhookAttribute? own, string? name)
    {
        if (own is not null && context.Features.Get<RequestWebhook>()?.IsOf(own) != true)
        {
            throw new InvalidOperationException(
                $"Endpoint {name} receives webhooks, but UseWebhookVerification() did not run for it. Call app.UseWebhookVerification() after UseRouting() and before the endpoints run.");
        }
    }
}
