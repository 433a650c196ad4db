using System.Buffers;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>400 with problem details (RFC 9457): by the application's own service where it has one, else written here. A result of minimal APIs and of MVC.</summary>
internal sealed class ProblemAnswer(PageProblem problem) : IResult, IActionResult
{
    public const string ContentType = "application/problem+json";

    Task IActionResult.ExecuteResultAsync(ActionContext context) => ExecuteAsync(context.HttpContext);

    public async Task ExecuteAsync(HttpContext httpContext)
    {
        httpContext.Response.StatusCode = StatusCodes.Status400BadRequest;

        // What the handler said before it threw was about a page.
        httpContext.Response.Headers.CacheControl = "no-store";
        httpContext.Response.Headers.Remove("ETag");
        try
        {
            if (!await TryWriteByServiceAsync(httpContext).ConfigureAwait(false))
            {
                ReadOnlyMemory<byte> body = Body();
                httpContext.Response.StatusCode = StatusCodes.Status400BadRequest;
                httpContext.Response.ContentType = ContentType;
                httpContext.Response.ContentLength = body.Length;
                await httpContext.Response.Body.WriteAsync(body, httpContext.RequestAborted).ConfigureAwait(false);
            }
        }
        catch (Exception exception) when (httpContext.RequestAborted.IsCancellationRequested && exception is OperationCanceledException or IOException)
        {
            // Nobody is left to read it.
        }
    }

    private async ValueTask<bool> TryWriteByServiceAsync(HttpContext context)
    {
        if (context.RequestServices?.GetService<IProblemDetailsService>() is not { } service)
        {
            return false;
        }

        try
        {
            var details = new ProblemDetails { Type = problem.Type, Title = problem.Title, Status = StatusCodes.Status400BadRequest, Detail = problem.Detail };
            details.Extensions["reason"] = problem.Reason;
            if (problem.MaxSize is int maxSize)
            {
                details.Extensions["maxSize"] = maxSize;
            }

            // That of MVC claims to have written where it wrote nothing: for a controller without [ApiController].
            context.Response.ContentType = null;
            return await service.TryWriteAsync(new ProblemDetailsContext { HttpContext = context, ProblemDetails = details }).ConfigureAwait(false)
                && (context.Response.HasStarted || context.Response.ContentType is not null);
        }
        catch (Exception) when (!context.Response.HasStarted && !context.RequestAborted.IsCancellationRequested)
        {
            // The application's own code fails; the answer stays what it is.
            return false;
        }
    }

    private ReadOnlyMemory<byte> Body()
    {
        var body = new ArrayBufferWriter<byte>();
        using (var writer = new Utf8JsonWriter(body))
        {
            writer.WriteStartObject();
            writer.WriteString("type", problem.Type);
            writer.WriteString("title", problem.Title);
            writer.WriteNumber("status", StatusCodes.Status400BadRequest);
            writer.WriteString("detail", problem.Detail);
            writer.WriteString("reason", problem.Reason);
            if (problem.MaxSize is int maxSize)
            {
                writer.WriteNumber("maxSize", maxSize);
            }

            writer.WriteEndObject();
        }

        return body.WrittenMemory;
    }
}
