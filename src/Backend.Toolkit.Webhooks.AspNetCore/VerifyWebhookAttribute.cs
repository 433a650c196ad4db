using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc.Filters;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>
/// Verifies the requests of an endpoint, whatever their method, before anything binds them, and handles each message once. The nearest to the endpoint holds. A request for which <c>UseWebhookVerification</c> did not run
/// fails with an <see cref="InvalidOperationException"/>: by a filter on controllers and pages, elsewhere by <c>AddWebhookReceiving</c>.
/// </summary>
/// <param name="verifier">The name given to <c>AddWebhookVerifier</c>.</param>
[AttributeUsage(AttributeTargets.Class | AttributeTargets.Method)]
public sealed class VerifyWebhookAttribute(string verifier) : Attribute, IResourceFilter
{
    /// <summary>The name of the verifier.</summary>
    public string Verifier { get; } = string.IsNullOrWhiteSpace(verifier) ? throw new ArgumentException("A verifier must have a name.", nameof(verifier)) : verifier;

    /// <summary>Whether a message is handled once: by the guard of the verifier's name, else the one without a name, else one in memory with the defaults. Default true.</summary>
    public bool GuardReplays { get; init; } = true;

    internal Func<VerifiedWebhook, ValueTask<string?>>? EventId { get; init; }

    /// <inheritdoc/>
    public void OnResourceExecuting(ResourceExecutingContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        // Those of the endpoint, which also hold what conventions such as MapControllers().VerifyWebhook() added.
        EndpointMetadataCollection metadata = context.HttpContext.GetEndpoint()?.Metadata ?? new EndpointMetadataCollection(context.ActionDescriptor.EndpointMetadata);
        RequestWebhook.ThrowIfNotVerified(context.HttpContext, metadata.GetMetadata<VerifyWebhookAttribute>(), context.ActionDescriptor.DisplayName);
    }

    /// <inheritdoc/>
    public void OnResourceExecuted(ResourceExecutedContext context)
    {
    }
}
