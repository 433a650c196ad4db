using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>Where a handler finds what was verified.</summary>
public static class WebhookHttpContextExtensions
{
    /// <summary>The webhook of this request: id, time, the verifier's name and the raw body.</summary>
    /// <param name="context">The request.</param>
    /// <returns>The webhook, which lives as long as the request.</returns>
    /// <exception cref="InvalidOperationException">The request was not verified.</exception>
    public static VerifiedWebhook GetVerifiedWebhook(this HttpContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        return context.Features.Get<RequestWebhook>()?.Webhook
            ?? throw new InvalidOperationException("The request is no verified webhook: its endpoint needs VerifyWebhook(…) and app.UseWebhookVerification().");
    }
}
