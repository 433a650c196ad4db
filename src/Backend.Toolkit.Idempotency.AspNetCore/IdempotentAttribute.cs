using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc.Filters;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>
/// Runs the requests of an endpoint once for each key. The nearest to the endpoint holds. GET, HEAD, OPTIONS and TRACE pass by: they have no effect to protect. A request for which
/// <c>UseIdempotency</c> did not run fails with an <see cref="InvalidOperationException"/>: by a filter on controllers and pages, elsewhere by <c>AddHttpIdempotency</c>.
/// </summary>
/// <param name="executor">The name given to <c>AddIdempotency</c>; null: the executor without a name.</param>
[AttributeUsage(AttributeTargets.Class | AttributeTargets.Method)]
public sealed class IdempotentAttribute(string? executor = null) : Attribute, IResourceFilter
{
    /// <summary>The name of the executor; null: the one without a name.</summary>
    public string? Executor { get; } = executor;

    /// <summary>How the endpoint runs once. Default <see cref="IdempotencyMode.Lease"/>.</summary>
    public IdempotencyMode Mode { get; init; }

    /// <summary>Whether a request without a key is answered 400; otherwise it runs unprotected. Always true in transaction mode. Default true.</summary>
    public bool KeyRequired { get; init; } = true;

    internal bool NeedsKey => KeyRequired || Mode == IdempotencyMode.Transaction;

    /// <summary>
    /// Set by the middleware when it lets a request of these endpoints pass without a key: the header that it looked for. A feature for each such request would cost more than all the rest.
    /// </summary>
    internal string? OptionalHeader { get; set; }

    /// <inheritdoc/>
    public void OnResourceExecuting(ResourceExecutingContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        // Those of the endpoint, which also hold what conventions such as MapControllers().RequireIdempotency() added.
        EndpointMetadataCollection metadata = context.HttpContext.GetEndpoint()?.Metadata ?? new EndpointMetadataCollection(context.ActionDescriptor.EndpointMetadata);
        RequestIdempotency.ThrowIfNotProtected(context.HttpContext, metadata.GetMetadata<IdempotentAttribute>(), context.ActionDescriptor.DisplayName);
    }

    /// <inheritdoc/>
    public void OnResourceExecuted(ResourceExecutedContext context)
    {
    }
}
