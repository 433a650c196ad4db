using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;

namespace Backend.Toolkit.RateLimiting.AspNetCore;

/// <summary>Registers what <c>UseRateLimits</c> needs beside the policies.</summary>
public static class RateLimitServiceCollectionExtensions
{
    /// <summary>Adds what <c>UseRateLimits</c> needs: the guard that makes endpoints with a <see cref="RateLimitAttribute"/> fail where the middleware does not run.</summary>
    /// <param name="services">The services.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddRateLimits(this IServiceCollection services)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.AddRouting();
        services.TryAddEnumerable(ServiceDescriptor.Singleton<MatcherPolicy, RateLimitGuard>());
        return services;
    }
}
