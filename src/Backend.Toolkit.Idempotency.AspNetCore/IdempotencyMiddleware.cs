using System.Security.Claims;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Primitives;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>
/// Reads the key, takes the fingerprint with the body read to its end, claims, and runs the rest inside a <see cref="ProtectedRun"/> or answers in its place. Thread-safe. A request
/// to an endpoint without the attribute, or without a key where that is optional, costs a few look-ups and no memory.
/// </summary>
internal sealed class IdempotencyMiddleware(RequestDelegate next, HttpIdempotencyInForce inForce, EndpointOperations operations, TimeProvider time, ILogger? logger)
{
    public const string ReplayedHeader = "Idempotent-Replayed";

    public Task InvokeAsync(HttpContext context)
    {
        if (context.GetEndpoint() is not { } endpoint || endpoint.Metadata.GetMetadata<IdempotentAttribute>() is not { } attribute || RequestIdempotency.PassesBy(context.Request.Method))
        {
            return next(context);
        }

        HttpIdempotencyInForce.Settings settings = inForce.Current;
        if (context.Request.Headers.TryGetValue(settings.HeaderName, out StringValues lines) || attribute.NeedsKey)
        {
            // The application may use the middleware twice.
            return context.Features.Get<RequestIdempotency>() is null ? InvokeAsync(context, endpoint, attribute, settings, lines) : next(context);
        }

        if (!ReferenceEquals(attribute.OptionalHeader, settings.HeaderName))
        {
            attribute.OptionalHeader = settings.HeaderName;
        }

        return next(context);
    }

    /// <summary>Answers in place of the handler, as the operation stands: it ran before, or is not ours to run.</summary>
    internal static Task AnswerAsync(HttpContext context, HttpIdempotencyInForce.Settings settings, IdempotentOperation operation, ILogger? logger) => operation.Status switch
    {
        IdempotencyStatus.InProgress => Refusal.InProgress.WriteAsync(context, settings, retryAfter: operation.RetryAfter ?? TimeSpan.Zero),
        IdempotencyStatus.Mismatch => Refusal.Mismatch.WriteAsync(context, settings),
        IdempotencyStatus.KeyExpired => Refusal.KeyExpired.WriteAsync(context, settings),
        _ => ReplayAsync(context, settings, operation.Outcome!, logger),
    };

    private static async Task ReplayAsync(HttpContext context, HttpIdempotencyInForce.Settings settings, IdempotencyOutcome outcome, ILogger? logger)
    {
        HttpResponse response = context.Response;
        response.Headers[ReplayedHeader] = "true";
        if (outcome.IsTombstone)
        {
            await Refusal.NotKept.WriteAsync(context, settings, originalStatus: outcome.Status).ConfigureAwait(false);
            return;
        }

        if (outcome.Status is < 200 or > 599 || StoredResponse.Read(outcome.Content) is not { } stored)
        {
            if (logger is not null)
            {
                Log.Unreadable(logger, context.GetEndpoint()?.DisplayName ?? "");
            }

            await Refusal.Unreadable.WriteAsync(context, settings).ConfigureAwait(false);
            return;
        }

        response.StatusCode = outcome.Status;
        foreach ((string name, StringValues values) in stored.Headers)
        {
            response.Headers[name] = values;
        }

        if (stored.Body.IsEmpty)
        {
            return;
        }

        response.ContentLength = stored.Body.Length;
        try
        {
            // Not with its token, which others outside may have replaced by that of a timeout.
            await response.Body.WriteAsync(stored.Body, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception exception) when (context.RequestAborted.IsCancellationRequested && exception is OperationCanceledException or IOException)
        {
            // It stays recorded for the next repeat.
        }
    }

    private async Task InvokeAsync(HttpContext context, Endpoint endpoint, IdempotentAttribute attribute, HttpIdempotencyInForce.Settings settings, StringValues lines)
    {
        HttpRequest request = context.Request;
        if (HttpMethods.IsConnect(request.Method))
        {
            throw new InvalidOperationException("A CONNECT request cannot run once: what follows has no response that could be kept.");
        }

        if (lines.Count == 0)
        {
            await Refusal.KeyMissing.WriteAsync(context, settings).ConfigureAwait(false);
            return;
        }

        if (IdempotencyKeyField.Problem(lines, settings.StrictKeys, out string key) is { } problem)
        {
            await Refusal.KeyMalformed.WriteAsync(context, settings, problem).ConfigureAwait(false);
            return;
        }

        string subject = SubjectOf(context, settings);
        if (subject.Length == 0 && !settings.AllowAnonymous)
        {
            await Refusal.Anonymous.WriteAsync(context, settings).ConfigureAwait(false);
            return;
        }

        EndpointOperations.Entry entry = operations.Of(endpoint, attribute);
        byte[]? fingerprint = null;
        bool isCut = false;
        try
        {
            fingerprint = await RequestFingerprint.ComputeAsync(request, settings.MaxRequestBodyBytes, settings.MaxBytesInMemory, context.RequestAborted).ConfigureAwait(false);
        }
        catch (BadHttpRequestException exception) when (exception.StatusCode == StatusCodes.Status413PayloadTooLarge)
        {
            // The server allows less than the options do.
        }
        catch (Exception exception) when (exception is OperationCanceledException or IOException)
        {
            // Nothing is claimed, nobody is left to hear of it, and it is no failure of the server's.
            context.Response.StatusCode = (exception as BadHttpRequestException)?.StatusCode ?? StatusCodes.Status499ClientClosedRequest;
            isCut = true;
        }

        if (isCut)
        {
            return;
        }

        if (fingerprint is null)
        {
            await Refusal.BodyTooLarge.WriteAsync(context, settings).ConfigureAwait(false);
            return;
        }

        if (context.RequestAborted.IsCancellationRequested)
        {
            context.Response.StatusCode = StatusCodes.Status499ClientClosedRequest;
            return;
        }

        // Not the client's: its leaving ends neither the claim, which may have been made by then, nor the run.
        var lifetime = new CancellationTokenSource();
        IdempotentOperation operation;
        try
        {
            var scope = new IdempotencyScope(entry.OperationOf(request.Method), subject);
            operation = attribute.Mode == IdempotencyMode.Transaction
                ? entry.Executor.Prepare(scope, key, fingerprint, lifetime.Token)
                : await entry.Executor.BeginAsync(scope, key, fingerprint, lifetime.Token, waitCancellation: context.RequestAborted).ConfigureAwait(false);
        }
        catch (IdempotencyStoreException)
        {
            await Refusal.StoreDown.WriteAsync(context, settings).ConfigureAwait(false);
            return;
        }

        await using (operation.ConfigureAwait(false))
        {
            if (operation.Status is not (IdempotencyStatus.Prepared or IdempotencyStatus.Started or IdempotencyStatus.Unprotected))
            {
                await AnswerAsync(context, settings, operation, logger).ConfigureAwait(false);
                return;
            }

            TimeSpan limit = LimitOf(context, settings);
            // Asynchronously: what the handler has registered may throw, which nothing would catch on a timer's thread.
            ITimer? timer = limit == Timeout.InfiniteTimeSpan ? null : time.CreateTimer(
                static lifetime => _ = ((CancellationTokenSource)lifetime!).CancelAsync(), lifetime, limit, Timeout.InfiniteTimeSpan);
            try
            {
                var run = new ProtectedRun(context, settings, operation, attribute, entry.Executor.MaxOutcomeBytes, logger);
                await using (run.ConfigureAwait(false))
                {
                    await run.RunAsync(next).ConfigureAwait(false);
                }
            }
            finally
            {
                if (timer is not null)
                {
                    await timer.DisposeAsync().ConfigureAwait(false);
                }
            }
        }
    }

    /// <summary>With the issuer: two of them may have users of the same name. Names are marked, so that nobody can be called what somebody else's identifier is.</summary>
    private static string SubjectOf(HttpContext context, HttpIdempotencyInForce.Settings settings)
    {
        if (settings.Subject is not null)
        {
            return settings.Subject(context) ?? "";
        }

        if (context.User.Identity is not { IsAuthenticated: true } identity)
        {
            return "";
        }

        Claim? claim = context.User.FindFirst(ClaimTypes.NameIdentifier) ?? context.User.FindFirst("sub");
        if (claim is { Value.Length: > 0 })
        {
            return $"{claim.Issuer.Length} {claim.Issuer} {claim.Value}";
        }

        string? issuer = identity is ClaimsIdentity own ? own.FindFirst(own.NameClaimType)?.Issuer : null;
        return identity.Name is { Length: > 0 } name ? $"name {issuer?.Length ?? 0} {issuer} {name}" : "";
    }

    private TimeSpan LimitOf(HttpContext context, HttpIdempotencyInForce.Settings settings)
    {
        TimeSpan? left = null;
        try
        {
            left = settings.TimeLeft?.Invoke(context);
        }
        catch (Exception exception)
        {
            if (logger is not null)
            {
                Log.TimeLeftThrew(logger, exception);
            }
        }

        TimeSpan limit = settings.MaxRunTime;
        if (left is { } time && time != Timeout.InfiniteTimeSpan && (limit == Timeout.InfiniteTimeSpan || time < limit))
        {
            limit = time > TimeSpan.Zero ? time : TimeSpan.Zero;
        }

        return limit;
    }
}
