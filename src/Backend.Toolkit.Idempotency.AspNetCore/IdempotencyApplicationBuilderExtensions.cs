using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>Runs requests once.</summary>
public static class IdempotencyApplicationBuilderExtensions
{
    /// <summary>
    /// Runs each request that comes by here, and whose endpoint asks for it, once for each key, and answers repeats with what the first was answered. Put it after <c>UseExceptionHandler</c>,
    /// <c>UseRouting</c>, <c>UseAuthentication</c>, <c>UseAuthorization</c> and rate limits, so that what is turned away claims nothing, and before <c>UseTimeoutBudgets</c>.
    /// </summary>
    /// <param name="app">The application.</param>
    /// <returns>The application.</returns>
    /// <exception cref="InvalidOperationException"><c>AddHttpIdempotency</c> was not called.</exception>
    public static IApplicationBuilder UseIdempotency(this IApplicationBuilder app)
    {
        ArgumentNullException.ThrowIfNull(app);
        IServiceProvider services = app.ApplicationServices;
        if (services.GetService<IServiceProviderIsService>()?.IsService(typeof(HttpIdempotencyInForce)) == false)
        {
            throw new InvalidOperationException("UseIdempotency() needs services that are missing. Call services.AddHttpIdempotency().");
        }

        // When the application starts, all options were validated: bad ones here do not hide those of others.
        return app.Use(next => new IdempotencyMiddleware(
            next,
            services.GetRequiredService<HttpIdempotencyInForce>(),
            new EndpointOperations(services),
            services.GetService<TimeProvider>() ?? TimeProvider.System,
            services.GetService<ILogger<IdempotencyMiddleware>>()).InvokeAsync);
    }
}
