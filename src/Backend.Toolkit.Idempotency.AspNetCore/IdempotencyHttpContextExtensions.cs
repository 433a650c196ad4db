using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>Where a handler finds its operation.</summary>
public static class IdempotencyHttpContextExtensions
{
    /// <summary>The operation of this request, for phases, downstream keys and, in transaction mode, the transaction.</summary>
    /// <param name="context">The request.</param>
    /// <returns>The operation, which the middleware ends.</returns>
    /// <exception cref="InvalidOperationException">The request has none: its endpoint is not protected, its key is optional and was not sent, or it is a GET.</exception>
    public static IdempotentOperation GetIdempotentOperation(this HttpContext context) => FindIdempotentOperation(context) ?? throw new InvalidOperationException(
        "The request has no idempotent operation: its endpoint needs RequireIdempotency() and app.UseIdempotency(), and it a key. Where the key is optional, ask FindIdempotentOperation().");

    /// <summary>The operation of this request, where there is one.</summary>
    /// <param name="context">The request.</param>
    /// <returns>The operation, which the middleware ends; null when the request has none.</returns>
    public static IdempotentOperation? FindIdempotentOperation(this HttpContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        return context.Features.Get<RequestIdempotency>()?.Operation;
    }
}
