using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>Verifies webhooks.</summary>
public static class WebhookApplicationBuilderExtensions
{
    /// <summary>
    /// Verifies each request that comes by here, and whose endpoint asks for it, on its raw body, and lets each message be handled once. Put it after <c>UseExceptionHandler</c>, <c>UseRouting</c> and rate limits, and before
    /// whatever reads or decompresses the body: <c>UseRequestDecompression</c>, <c>UseAntiforgery</c>.
    /// </summary>
    /// <param name="app">The application.</param>
    /// <returns>The application.</returns>
    /// <exception cref="InvalidOperationException"><c>AddWebhookReceiving</c> was not called.</exception>
    public static IApplicationBuilder UseWebhookVerification(this IApplicationBuilder app)
    {
        ArgumentNullException.ThrowIfNull(app);
        IServiceProvider services = app.ApplicationServices;
        if (services.GetService<IServiceProviderIsService>()?.IsService(typeof(WebhookReceivingInForce)) == false)
        {
            throw new InvalidOperationException("UseWebhookVerification() needs services that are missing. Call services.AddWebhookReceiving().");
        }

        // When the application starts, all options were validated: bad ones here do not hide those of others.
        return app.Use(next => new WebhookMiddleware(
            next,
            services.GetRequiredService<WebhookReceivingInForce>(),
            services.GetRequiredService<Receivers>(),
            services.GetService<TimeProvider>() ?? TimeProvider.System,
            services.GetService<ILogger<WebhookMiddleware>>()).InvokeAsync);
    }
}
