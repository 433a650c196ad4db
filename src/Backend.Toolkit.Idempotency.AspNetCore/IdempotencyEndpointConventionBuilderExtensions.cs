using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>Says which endpoints run once.</summary>
public static class IdempotencyEndpointConventionBuilderExtensions
{
    /// <summary>
    /// Runs the requests of these endpoints once for each key; GET, HEAD, OPTIONS and TRACE pass by. What is said nearest to an endpoint holds. A request for which <c>UseIdempotency</c> did not
    /// run fails with an <see cref="InvalidOperationException"/>.
    /// </summary>
    /// <typeparam name="TBuilder">The type of <paramref name="builder"/>.</typeparam>
    /// <param name="builder">An endpoint, a group, or all controllers.</param>
    /// <param name="executor">The name given to <c>AddIdempotency</c>; null: the executor without a name.</param>
    /// <param name="mode">How they run once.</param>
    /// <param name="keyRequired">Whether a request without a key is answered 400; otherwise it runs unprotected.</param>
    /// <returns>The builder.</returns>
    /// <exception cref="ArgumentException">In transaction mode the key is required: the handler has nothing to begin its transaction with otherwise.</exception>
    public static TBuilder RequireIdempotency<TBuilder>(this TBuilder builder, string? executor = null, IdempotencyMode mode = IdempotencyMode.Lease, bool keyRequired = true)
        where TBuilder : IEndpointConventionBuilder
    {
        ArgumentNullException.ThrowIfNull(builder);
        if (mode == IdempotencyMode.Transaction && !keyRequired)
        {
            throw new ArgumentException("In transaction mode the key must be required.", nameof(keyRequired));
        }

        var attribute = new IdempotentAttribute(executor) { Mode = mode, KeyRequired = keyRequired };
        builder.Add(endpoint => endpoint.Metadata.Add(attribute));
        builder.Finally(Guard);
        return builder;
    }

    private static void Guard(EndpointBuilder endpoint)
    {
        // What the fallback is replaced by does not get its metadata.
        if (endpoint.Metadata.OfType<IDynamicEndpointMetadata>().Any(dynamic => dynamic.IsDynamic))
        {
            throw new InvalidOperationException(
                $"RequireIdempotency does not hold for {endpoint.DisplayName}, which routing replaces by a controller or a page. Put [Idempotent] on that, for which UseIdempotency() looks.");
        }

        if (endpoint.RequestDelegate is { } next && !endpoint.Metadata.OfType<IdempotencyGuard.LooksItself>().Any())
        {
            IdempotentAttribute? own = endpoint.Metadata.OfType<IdempotentAttribute>().LastOrDefault();
            string? name = endpoint.DisplayName;
            endpoint.Metadata.Add(IdempotencyGuard.LooksItself.Instance);
            endpoint.RequestDelegate = context =>
            {
                RequestIdempotency.ThrowIfNotProtected(context, own, name);
                return next(context);
            };
        }
    }
}
