using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Backend.Toolkit.RateLimiting.AspNetCore;

/// <summary>Sets the policies of single endpoints.</summary>
public static class RateLimitEndpointConventionBuilderExtensions
{
    /// <summary>
    /// Limits these endpoints by a policy, beside others that hold for them. A request for which <c>UseRateLimits</c> did not run fails with an
    /// <see cref="InvalidOperationException"/>.
    /// </summary>
    /// <typeparam name="TBuilder">The type of <paramref name="builder"/>.</typeparam>
    /// <param name="builder">An endpoint, a group, or all controllers.</param>
    /// <param name="policy">The name of the policy: of a <see cref="KeyedRateLimiter{TResource}"/> of <see cref="HttpContext"/> in the container.</param>
    /// <param name="cost">What a request costs, in permits; default one. When it throws or is negative, that is logged and the request costs one.</param>
    /// <returns>The builder.</returns>
    public static TBuilder RequireRateLimit<TBuilder>(this TBuilder builder, string policy, Func<HttpContext, int>? cost = null)
        where TBuilder : IEndpointConventionBuilder
    {
        ArgumentNullException.ThrowIfNull(builder);
        var limit = new RateLimitAttribute(policy) { Cost = cost };
        builder.Add(endpoint => endpoint.Metadata.Add(limit));
        builder.Finally(Guard);
        return builder;
    }

    /// <summary>Takes these endpoints out of all policies.</summary>
    /// <typeparam name="TBuilder">The type of <paramref name="builder"/>.</typeparam>
    /// <param name="builder">An endpoint, a group, or all controllers.</param>
    /// <returns>The builder.</returns>
    public static TBuilder DisableRateLimit<TBuilder>(this TBuilder builder)
        where TBuilder : IEndpointConventionBuilder
    {
        ArgumentNullException.ThrowIfNull(builder);
        builder.Add(static endpoint => endpoint.Metadata.Add(new DisableRateLimitAttribute()));
        return builder;
    }

    private static void Guard(EndpointBuilder endpoint)
    {
        // What the fallback is replaced by does not get its metadata.
        if (endpoint.Metadata.OfType<IDynamicEndpointMetadata>().Any(dynamic => dynamic.IsDynamic))
        {
            throw new InvalidOperationException(
                $"RequireRateLimit does not hold for {endpoint.DisplayName}, which routing replaces by a controller or a page. Put [RateLimit] on that, or name the policy in UseRateLimits().");
        }

        if (endpoint.RequestDelegate is { } next)
        {
            var metadata = new EndpointMetadataCollection(endpoint.Metadata);
            string? name = endpoint.DisplayName;
            endpoint.RequestDelegate = context =>
            {
                RequestRateLimits.ThrowIfNotLimited(context, metadata, name);
                return next(context);
            };
        }
    }
}
