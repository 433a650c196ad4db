using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Routing.Matching;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>Has endpoints that carry the attribute look whether the middleware ran; those of <c>VerifyWebhook</c> do so already.</summary>
internal sealed class WebhookGuard : MatcherPolicy, IEndpointSelectorPolicy
{
    private readonly ConditionalWeakTable<Endpoint, Endpoint> _guarded = [];

    public override int Order => 0;

    public bool AppliesToEndpoints(IReadOnlyList<Endpoint> endpoints) => endpoints.Any(Needs);

    public Task ApplyAsync(HttpContext httpContext, CandidateSet candidates)
    {
        for (int i = 0; i < candidates.Count; i++)
        {
            if (candidates.IsValidCandidate(i) && candidates[i].Endpoint is RouteEndpoint { RequestDelegate: not null } endpoint && Needs(endpoint))
            {
                candidates.ReplaceEndpoint(i, _guarded.GetValue(endpoint, Guarded), candidates[i].Values);
            }
        }

        return Task.CompletedTask;
    }

    private static bool Needs(Endpoint endpoint) => endpoint.Metadata.GetMetadata<VerifyWebhookAttribute>() is not null && endpoint.Metadata.GetMetadata<LooksItself>() is null;

    private static Endpoint Guarded(Endpoint endpoint)
    {
        var route = (RouteEndpoint)endpoint;
        RequestDelegate next = route.RequestDelegate!;
        VerifyWebhookAttribute own = route.Metadata.GetMetadata<VerifyWebhookAttribute>()!;
        return new RouteEndpoint(
            context =>
            {
                RequestWebhook.ThrowIfNotVerified(context, own, route.DisplayName);
                return next(context);
            },
            route.RoutePattern,
            route.Order,
            route.Metadata,
            route.DisplayName);
    }

    /// <summary>On endpoints whose delegate looks already.</summary>
    internal sealed class LooksItself
    {
        public static LooksItself Instance { get; } = new();
    }
}
