using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

/// <summary>An answer as problem details (RFC 9457): by the application's own service where it has one, else written here.</summary>
internal sealed class ProblemAnswer(int status, string title, string section, string detail)
{
    private readonly string _type = $"https://tools.ietf.org/html/rfc9110#section-{section}";

    /// <param name="context">Its response has not started, and holds nothing that must not go out.</param>
    public async Task WriteAsync(HttpContext context)
    {
        context.Response.StatusCode = status;
        try
        {
            if (!await TryWriteByServiceAsync(context).ConfigureAwait(false))
            {
                byte[] body = Encoding.UTF8.GetBytes($$"""{"type":"{{_type}}","title":"{{title}}","status":{{status}},"detail":"{{detail}}"}""");
                context.Response.StatusCode = status;
                context.Response.ContentType = "application/problem+json";
                context.Response.ContentLength = body.Length;
                await context.Response.Body.WriteAsync(body, context.RequestAborted).ConfigureAwait(false);
            }
        }
        catch (Exception exception) when (context.RequestAborted.IsCancellationRequested && exception is OperationCanceledException or IOException)
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
            // That of MVC claims to have written where it wrote nothing: for a controller without [ApiController].
            context.Response.ContentType = null;
            return await service.TryWriteAsync(new ProblemDetailsContext
            {
                HttpContext = context,
                ProblemDetails = new ProblemDetails { Type = _type, Title = title, Status = status, Detail = detail },
            }).ConfigureAwait(false) && (context.Response.HasStarted || context.Response.ContentType is not null);
        }
        catch (Exception) when (!context.Response.HasStarted && !context.RequestAborted.IsCancellationRequested)
        {
            // The application's own code fails; the answer stays what it is.
            return false;
        }
    }
}
