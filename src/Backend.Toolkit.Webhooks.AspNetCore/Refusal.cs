using System.Buffers;
using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>
/// A request that is not handed to its handler, as problem details (RFC 9457), by the application's own service where it has one. There is one 401 for all reasons: what is wrong with a signature would help who makes one up.
/// </summary>
internal sealed class Refusal(int status, string code, string title, string detail)
{
    private const string Type = "https://www.rfc-editor.org/rfc/rfc9110#section-15";

    public static Refusal Unauthorized { get; } = new(StatusCodes.Status401Unauthorized, "webhook_not_verified", "Unauthorized", "The request is not a webhook that was signed for this endpoint.");

    public static Refusal TooSlow { get; } = new(StatusCodes.Status408RequestTimeout, "request_too_slow", "Request Timeout", "The body of the request took too long to arrive.");

    public static Refusal InProgress { get; } = new(StatusCodes.Status409Conflict, "webhook_in_progress", "Conflict", "This webhook is being handled. Whether that succeeds is not known yet; send it again later.");

    public static Refusal TooLarge { get; } = new(StatusCodes.Status413PayloadTooLarge, "request_too_large", "Content Too Large", "The body of the request is longer than that of a webhook may be.");

    public static Refusal Unavailable { get; } = new(StatusCodes.Status503ServiceUnavailable, "webhooks_unavailable", "Service Unavailable", "Webhooks cannot be taken at the moment. Send it again later.");

    /// <param name="context">Its response has not started.</param>
    /// <param name="retryAfter">Rounded up to seconds.</param>
    public async Task WriteAsync(HttpContext context, TimeSpan? retryAfter = null)
    {
        HttpResponse response = context.Response;
        response.StatusCode = status;
        if (status == StatusCodes.Status401Unauthorized)
        {
            // RFC 9110, section 15.5.2: a 401 has a challenge.
            response.Headers.WWWAuthenticate = "Webhook";
        }

        if (retryAfter is { } wait)
        {
            response.Headers.RetryAfter = Math.Max(1, (long)Math.Ceiling(wait.TotalSeconds)).ToString(CultureInfo.InvariantCulture);
        }

        try
        {
            if (!await TryWriteByServiceAsync(context).ConfigureAwait(false))
            {
                ReadOnlyMemory<byte> body = Problem();
                response.StatusCode = status;
                response.ContentType = "application/problem+json";
                response.ContentLength = body.Length;
                await response.Body.WriteAsync(body, context.RequestAborted).ConfigureAwait(false);
            }
        }
        catch (Exception exception) when (context.RequestAborted.IsCancellationRequested && exception is OperationCanceledException or IOException)
        {
            // Nobody is left to read it.
        }
    }

    private ReadOnlyMemory<byte> Problem()
    {
        var buffer = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(buffer);
        json.WriteStartObject();
        json.WriteString("type", Type);
        json.WriteString("title", title);
        json.WriteNumber("status", status);
        json.WriteString("detail", detail);
        json.WriteString("code", code);
        json.WriteEndObject();
        json.Flush();
        return buffer.WrittenMemory;
    }

    private async ValueTask<bool> TryWriteByServiceAsync(HttpContext context)
    {
        if (context.RequestServices?.GetService<IProblemDetailsService>() is not { } service)
        {
            return false;
        }

        try
        {
            // That of MVC claims to have written where it wrote nothing: for a controller without [ApiController].
            context.Response.ContentType = null;
            var problem = new ProblemDetails { Type = Type, Title = title, Status = status, Detail = detail };
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
