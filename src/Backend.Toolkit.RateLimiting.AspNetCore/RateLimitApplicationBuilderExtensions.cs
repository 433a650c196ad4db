using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RateLimiting.AspNetCore;

/// <summary>Limits requests.</summary>
public static class RateLimitApplicationBuilderExtensions
{
    /// <summary>
    /// Limits each request that comes by here by the policies of its endpoint, and by one for the whole application. Put it after <c>UseExceptionHandler</c>, <c>UseRouting</c> and <c>UseAuthentication</c>.
    /// A refused request is answered 429 with problem details, <c>Retry-After</c>, <c>RateLimit</c> and <c>RateLimit-Policy</c>; an admitted one carries the latter two.
    /// </summary>
    /// <param name="app">The application.</param>
    /// <param name="policy">The policy of all requests but those to endpoints with <c>DisableRateLimit</c>; default none.</param>
    /// <param name="cost">What a request costs under <paramref name="policy"/>, in permits; default one.</param>
    /// <param name="onRefused">Writes the body of a refusal, whose status and headers are set, in place of the problem details. When it throws, that is logged and the problem details are written.</param>
    /// <returns>The application.</returns>
    /// <exception cref="InvalidOperationException"><c>AddRateLimits</c> was not called, or, thrown when the application starts, there is no policy of that name.</exception>
    public static IApplicationBuilder UseRateLimits(
        this IApplicationBuilder app,
        string? policy = null,
        Func<HttpContext, int>? cost = null,
        Func<HttpContext, RateLimitDecision, Task>? onRefused = null)
    {
        ArgumentNullException.ThrowIfNull(app);
        IServiceProvider services = app.ApplicationServices;
        RateLimitGuard guard = services.GetServices<MatcherPolicy>().OfType<RateLimitGuard>().FirstOrDefault()
            ?? throw new InvalidOperationException("UseRateLimits() needs services that are missing. Call services.AddRateLimits().");
        var policies = new EndpointPolicies(services, policy, cost);
        guard.IsEverywhere |= policy is not null;
        ILogger<RateLimitMiddleware>? logger = services.GetService<ILogger<RateLimitMiddleware>>();
        return app.Use(next =>
        {
            // When the application starts, all options were validated: bad ones here do not hide those of others.
            policies.Of(null);
            return new RateLimitMiddleware(next, policies, onRefused, logger).InvokeAsync;
        });
    }
}
