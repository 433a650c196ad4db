using System.Buffers;
using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>
/// A request that is not run, or not answered by its handler: as problem details (RFC 9457), by the application's own service where it has one, or in the form of Stripe's API. The titles are
/// those of draft-ietf-httpapi-idempotency-key-header-07, section 2.7.
/// </summary>
internal sealed class Refusal(int status, string code, string title, string detail, string stripeType, int? stripeStatus = null)
{
    private const string IdempotencyError = "idempotency_error";
    private const string RequestError = "invalid_request_error";
    private const string ServerError = "api_error";

    public static Refusal KeyMissing { get; } = new(400, "idempotency_key_missing", "Idempotency-Key is missing",
        "This operation runs once for each idempotency key, and the request has none.", RequestError);

    public static Refusal KeyMalformed { get; } = new(400, "idempotency_key_malformed", "Idempotency-Key is malformed", "", RequestError);

    public static Refusal Anonymous { get; } = new(401, "idempotency_key_of_nobody", "Idempotency-Key of nobody",
        "Idempotency keys belong to whoever sends them, and the request does not say who that is.", RequestError);

    public static Refusal InProgress { get; } = new(409, "idempotency_key_in_use", "A request is outstanding for this Idempotency-Key",
        "A request with this idempotency key is being processed. Repeat it later, with the same key.", IdempotencyError);

    public static Refusal LeaseLost { get; } = new(409, "idempotency_key_in_use", "A request is outstanding for this Idempotency-Key",
        "The request took too long, and another one with its idempotency key took over. Repeat it later, with the same key.", IdempotencyError);

    public static Refusal KeyExpired { get; } = new(412, "idempotency_key_expired", "Idempotency-Key has expired",
        "The idempotency key is older than responses are kept: whether the request ran is not known any more. Find out, then use a new key.", IdempotencyError, 400);

    public static Refusal BodyTooLarge { get; } = new(413, "request_too_large", "Content Too Large",
        "The body of the request is longer than a request with an idempotency key may have.", RequestError);

    public static Refusal Mismatch { get; } = new(422, "idempotency_key_reused", "Idempotency-Key is already used",
        "The idempotency key was used for another request. A new request needs a new key.", IdempotencyError, 400);

    public static Refusal StoreDown { get; } = new(503, "idempotency_store_down", "Service Unavailable",
        "Whether the request ran cannot be looked up or recorded at the moment. Repeat it later, with the same key.", ServerError);

    public static Refusal OutOfTime { get; } = new(503, "request_out_of_time", "Service Unavailable",
        "The request took longer than it may. Whether it had an effect is not known; repeat it later, with the same key.", ServerError);

    public static Refusal NotKept { get; } = new(0, "idempotency_response_not_kept", "The response was not kept",
        "The request ran and was answered with this status, but its response was too large to keep. It does not run again.", IdempotencyError);

    public static Refusal Unreadable { get; } = new(500, "idempotency_response_unreadable", "The response cannot be read",
        "The request ran and was answered, but this version of the program cannot read what was kept. It does not run again.", ServerError);

    /// <param name="context">Its response has not started.</param>
    /// <param name="settings">In which form.</param>
    /// <param name="text">In place of the detail.</param>
    /// <param name="retryAfter">Rounded up to seconds.</param>
    /// <param name="originalStatus">Of the response that was not kept.</param>
    public async Task WriteAsync(HttpContext context, HttpIdempotencyInForce.Settings settings, string? text = null, TimeSpan? retryAfter = null, int? originalStatus = null)
    {
        HttpResponse response = context.Response;
        if (retryAfter is { } wait)
        {
            response.Headers.RetryAfter = Math.Max(1, (long)Math.Ceiling(wait.TotalSeconds)).ToString(CultureInfo.InvariantCulture);
        }

        try
        {
            if (settings.Profile == IdempotencyProfile.Stripe)
            {
                await SendAsync(context, originalStatus ?? stripeStatus ?? status, "application/json", StripeError(text ?? detail)).ConfigureAwait(false);
                return;
            }

            int number = originalStatus ?? status;
            response.StatusCode = number;
            if (!await TryWriteByServiceAsync(context, number, settings.TypeOf(code), text ?? detail).ConfigureAwait(false))
            {
                await SendAsync(context, number, "application/problem+json", Problem(number, settings.TypeOf(code), text ?? detail)).ConfigureAwait(false);
            }
        }
        catch (Exception exception) when (context.RequestAborted.IsCancellationRequested && exception is OperationCanceledException or IOException)
        {
            // Nobody is left to read it.
        }
    }

    private static async ValueTask SendAsync(HttpContext context, int number, string contentType, ReadOnlyMemory<byte> body)
    {
        context.Response.StatusCode = number;
        context.Response.ContentType = contentType;
        context.Response.ContentLength = body.Length;
        await context.Response.Body.WriteAsync(body, CancellationToken.None).ConfigureAwait(false);
    }

    private ReadOnlyMemory<byte> Problem(int number, string type, string text)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(buffer);
        json.WriteStartObject();
        json.WriteString("type", type);
        json.WriteString("title", title);
        json.WriteNumber("status", number);
        json.WriteString("detail", text);
        json.WriteString("code", code);
        json.WriteEndObject();
        json.Flush();
        return buffer.WrittenMemory;
    }

    private ReadOnlyMemory<byte> StripeError(string text)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(buffer);
        json.WriteStartObject();
        json.WriteStartObject("error");
        json.WriteString("type", stripeType);
        json.WriteString("code", code);
        json.WriteString("message", text);
        json.WriteEndObject();
        json.WriteEndObject();
        json.Flush();
        return buffer.WrittenMemory;
    }

    private async ValueTask<bool> TryWriteByServiceAsync(HttpContext context, int number, string type, string text)
    {
        if (context.RequestServices?.GetService<IProblemDetailsService>() is not { } service)
        {
            return false;
        }

        try
        {
            // That of MVC claims to have written where it wrote nothing: for a controller without [ApiController].
            context.Response.ContentType = null;
            var problem = new ProblemDetails { Type = type, Title = title, Status = number, Detail = text };
            problem.Extensions["code"] = code;
            return await service.TryWriteAsync(new ProblemDetailsContext { HttpContext = context, ProblemDetails = problem }).ConfigureAwait(false)
                && (context.Response.HasStarted || context.Response.ContentType is not null);
        }
        catch (Exception) when (!context.Response.HasStarted && !context.RequestAborted.IsCancellationRequested)
        {
            // The application's own code fails; the answer stays what it is.
            return false;
        }
    }
}
