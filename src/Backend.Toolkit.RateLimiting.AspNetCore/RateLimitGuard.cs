using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Routing.Matching;

namespace Backend.Toolkit.RateLimiting.AspNetCore;

/// <summary>Has endpoints that carry the attribute look whether the middleware ran; those of <c>RequireRateLimit</c> do so already.</summary>
internal sealed class RateLimitGuard : MatcherPolicy, IEndpointSelectorPolicy
{
    private readonly ConditionalWeakTable<Endpoint, Endpoint> _guarded = [];

    /// <summary>The application has a policy for all its endpoints, which its document is to tell.</summary>
    public bool IsEverywhere { get; set; }

    public override int Order => 0;

    public bool AppliesToEndpoints(IReadOnlyList<Endpoint> endpoints) => endpoints.Any(endpoint => endpoint.Metadata.GetMetadata<RateLimitAttribute>() is not null);

    public Task ApplyAsync(HttpContext httpContext, CandidateSet candidates)
    {
        for (int i = 0; i < candidates.Count; i++)
        {
            if (candidates.IsValidCandidate(i) && candidates[i].Endpoint is RouteEndpoint { RequestDelegate: not null } endpoint && endpoint.Metadata.GetMetadata<RateLimitAttribute>() is not null)
            {
                candidates.ReplaceEndpoint(i, _guarded.GetValue(endpoint, Guarded), candidates[i].Values);
            }
        }

        return Task.CompletedTask;
    }

    private static Endpoint Guarded(Endpoint endpoint)
    {
        var route = (RouteEndpoint)endpoint;
        RequestDelegate next = route.RequestDelegate!;
        return new RouteEndpoint(
            context =>
            {
                RequestRateLimits.ThrowIfNotLimited(context, route.Metadata, route.DisplayName);
                return next(context);
            },
            route.RoutePattern,
            route.Order,
            route.Metadata,
            route.DisplayName);
    }
}
