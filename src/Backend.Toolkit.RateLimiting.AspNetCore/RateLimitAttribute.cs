using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc.Filters;

namespace Backend.Toolkit.RateLimiting.AspNetCore;

/// <summary>
/// Limits an endpoint by a policy: the keyed limiter of requests that is registered under its name. Several on one endpoint: all must admit. A request for
/// which <c>UseRateLimits</c> did not run fails with an <see cref="InvalidOperationException"/>: by a filter on controllers and pages, elsewhere by <c>AddRateLimits</c>.
/// </summary>
/// <param name="policy">The name of the policy.</param>
[AttributeUsage(AttributeTargets.Class | AttributeTargets.Method, AllowMultiple = true)]
public sealed class RateLimitAttribute(string policy) : Attribute, IResourceFilter
{
    /// <summary>The name of the policy.</summary>
    public string Policy { get; } = string.IsNullOrWhiteSpace(policy) ? throw new ArgumentException("A policy must have a name.", nameof(policy)) : policy;

    /// <summary>What a request costs; null: one permit.</summary>
    internal Func<HttpContext, int>? Cost { get; init; }

    /// <inheritdoc/>
    public void OnResourceExecuting(ResourceExecutingContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        // Those of the endpoint, which also hold what conventions such as MapControllers().DisableRateLimit() added.
        EndpointMetadataCollection metadata = context.HttpContext.GetEndpoint()?.Metadata ?? new EndpointMetadataCollection(context.ActionDescriptor.EndpointMetadata);
        RequestRateLimits.ThrowIfNotLimited(context.HttpContext, metadata, context.ActionDescriptor.DisplayName);
    }

    /// <inheritdoc/>
    public void OnResourceExecuted(ResourceExecutedContext context)
    {
    }
}
