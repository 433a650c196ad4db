using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>Says that a request has a key, and runs once, under which attribute: a feature of the <see cref="HttpContext"/>.</summary>
internal sealed class RequestIdempotency(IdempotentAttribute attribute, IdempotentOperation operation)
{
    public IdempotentOperation Operation => operation;

    /// <summary>They have no effect that could come twice (RFC 9110, section 9.2.1).</summary>
    public static bool PassesBy(string method) =>
        !HttpMethods.IsPost(method) && (HttpMethods.IsGet(method) || HttpMethods.IsHead(method) || HttpMethods.IsOptions(method) || HttpMethods.IsTrace(method));

    /// <summary>Metadata alone would pass unnoticed where the middleware did not run, so the endpoint itself looks.</summary>
    public static void ThrowIfNotProtected(HttpContext context, IdempotentAttribute? own, string? name)
    {
        if (own is null || (own.OptionalHeader is { } header && !context.Request.Headers.ContainsKey(header)) || PassesBy(context.Request.Method))
        {
            return;
        }

        if (context.Features.Get<RequestIdempotency>() is not { } feature || !feature.IsOf(own))
        {
            throw new InvalidOperationException(
                $"Endpoint {name} is to run once for each idempotency key, but UseIdempotency() did not run for it. Call app.UseIdempotency() after UseRouting() and before the endpoints run.");
        }
    }

    private bool IsOf(IdempotentAttribute own) => ReferenceEquals(own, attribute);
}
