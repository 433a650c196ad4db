using System.Buffers;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>
/// Judges the headers, then reads the body once, up to a cap, while it hashes it; only a body whose signature is valid gets to the handler, from its start, and only once. Thread-safe. A request to an endpoint without the
/// attribute costs a look-up and no memory; one whose headers alone are refused costs no byte of its body.
/// </summary>
internal sealed class WebhookMiddleware(RequestDelegate next, WebhookReceivingInForce inForce, Receivers receivers, TimeProvider time, ILogger? logger)
{
    private const long MostDrained = 2_097_152;
    private const long MostDrainedOfUnknownLength = 65_536;

    private static Func<IHeaderDictionary, string, string?> Header { get; } = static (headers, name) => headers[name];

    public Task InvokeAsync(HttpContext context) =>
        context.GetEndpoint()?.Metadata.GetMetadata<VerifyWebhookAttribute>() is not { } attribute || context.Features.Get<RequestWebhook>()?.IsOf(attribute) == true
            ? next(context)
            : InvokeAsync(context, attribute);

    private async Task InvokeAsync(HttpContext context, VerifyWebhookAttribute attribute)
    {
        WebhookReceivingInForce.Settings settings = inForce.Current;
        Receivers.Receiver receiver = receivers.Of(attribute.Verifier);
        var body = new ReceivedBody(inForce.Unverified, settings.MaxUnverifiedBytes, settings.MaxBytesInMemory);
        bool isKept = false;
        try
        {
            WebhookVerification verification;
            WebhookMessage message;
            using (WebhookSession session = receiver.Verifier.Begin(context.Request.Headers, Header))
            {
                if (!session.IsRefused)
                {
                    BodyReading reading = await ReadAsync(context, attribute.Verifier, settings, session, body).ConfigureAwait(false);
                    if (reading != BodyReading.Complete)
                    {
                        // Before it is answered: a client that reads slowly must not hold what others need.
                        body.Dispose();
                        await AnswerAsync(context, attribute.Verifier, settings, reading).ConfigureAwait(false);
                        return;
                    }
                }

                verification = session.Finish(out message);
            }

            if (verification != WebhookVerification.Valid)
            {
                if (logger is not null)
                {
                    Log.Refused(logger, attribute.Verifier, verification);
                }

                body.Dispose();
                LimitDrain(context);
                await RefuseAsync(context, attribute.Verifier, Refusal.Unauthorized, "unauthorized").ConfigureAwait(false);
                return;
            }

            body.Accept();
            context.Response.RegisterForDispose(body);
            isKept = true;
            var webhook = new VerifiedWebhook(attribute.Verifier, message, body);
            context.Request.Body = body.OpenRead();
            context.Features.Set(new RequestWebhook(attribute, webhook));
            await RunAsync(context, attribute, settings, receiver.Guard, webhook).ConfigureAwait(false);
        }
        finally
        {
            if (!isKept)
            {
                body.Dispose();
            }
        }
    }

    private async Task RunAsync(HttpContext context, VerifyWebhookAttribute attribute, WebhookReceivingInForce.Settings settings, WebhookReplayGuard guard, VerifiedWebhook webhook)
    {
        if (!attribute.GuardReplays)
        {
            Telemetry.Ended(attribute.Verifier, "unguarded");
            await next(context).ConfigureAwait(false);
            return;
        }

        WebhookReplayKey? key;
        try
        {
            string? id = attribute.EventId is null ? null : await attribute.EventId(webhook).ConfigureAwait(false);
            key = id is null ? null : webhook.Message.ReplayKeyOf(id);
        }
        catch
        {
            Telemetry.Ended(attribute.Verifier, "failed");
            throw;
        }

        WebhookReservation reservation;
        try
        {
            // Not with the client's token: what it would leave half-done is a reservation that nobody releases.
            ValueTask<WebhookReservation> pending = key is { } chosen ? guard.ReserveAsync(chosen, CancellationToken.None) : guard.ReserveAsync(webhook.Message, CancellationToken.None);
            reservation = await Reserving.WithinAsync(pending, settings.StoreTimeout, time, attribute.Verifier, logger).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            if (logger is not null)
            {
                Log.NotReserved(logger, attribute.Verifier, exception);
            }

            await RefuseAsync(context, attribute.Verifier, Refusal.Unavailable, "store_down", settings.RetryAfter).ConfigureAwait(false);
            return;
        }

        switch (reservation.Status)
        {
            case WebhookReservationStatus.Reserved:
                bool handled = false;
                try
                {
                    handled = await new GuardedRun(context, attribute.Verifier, reservation, settings, time, logger).RunAsync(next).ConfigureAwait(false);
                }
                finally
                {
                    Telemetry.Ended(attribute.Verifier, handled ? "handled" : "failed");
                }

                break;
            case WebhookReservationStatus.Committed:
                Telemetry.Ended(attribute.Verifier, "duplicate");
                context.Response.StatusCode = StatusCodes.Status200OK;
                break;
            case WebhookReservationStatus.InProgress:
                await RefuseAsync(context, attribute.Verifier, Refusal.InProgress, "in_progress", reservation.RetryAfter).ConfigureAwait(false);
                break;
            default:
                await RefuseAsync(context, attribute.Verifier, Refusal.Unavailable, "guard_full", settings.RetryAfter).ConfigureAwait(false);
                break;
        }
    }

    private async ValueTask<BodyReading> ReadAsync(HttpContext context, string name, WebhookReceivingInForce.Settings settings, WebhookSession session, ReceivedBody body)
    {
        HttpRequest request = context.Request;
        if (request.ContentLength > settings.MaxBodyBytes)
        {
            LimitDrain(context);
            return BodyReading.TooLarge;
        }

        if (request.ContentLength > settings.MaxUnverifiedBytes - inForce.Unverified.Held)
        {
            LimitDrain(context);
            return BodyReading.TooMuchUnverified;
        }

        if (request.ContentLength == 0 || context.Features.Get<IHttpRequestBodyDetectionFeature>()?.CanHaveBody == false)
        {
            return BodyReading.Complete;
        }

        if (request.ContentLength is null && !body.TryReserve(settings.MaxBodyBytes))
        {
            LimitDrain(context);
            return BodyReading.TooMuchUnverified;
        }

        if (!request.Body.CanSeek && context.Features.Get<IFormFeature>() is { Form: not null })
        {
            throw new InvalidOperationException("The form of the request was read before its signature could be verified. Call app.UseWebhookVerification() before what reads the body.");
        }

        if (request.ContentLength is null)
        {
            // The server counts what is around chunks, too, which is little unless they are tiny.
            LimitServer(context, (2 * settings.MaxBodyBytes) + MostDrainedOfUnknownLength);
        }

        PipeReader reader;
        if (request.Body.CanSeek)
        {
            request.Body.Position = 0;
            reader = PipeReader.Create(request.Body, new StreamPipeReaderOptions(leaveOpen: true));
        }
        else
        {
            reader = request.BodyReader;
        }

        // Not by a token: a read that one ends leaves the server's reader in the middle of it.
        ITimer deadline = time.CreateTimer(static reader => ((PipeReader)reader!).CancelPendingRead(), reader, settings.ReadTimeout, Timeout.InfiniteTimeSpan);
        await using (deadline.ConfigureAwait(false))
        {
            return await ReadAsync(reader, name, settings, session, body).ConfigureAwait(false);
        }
    }

    private async ValueTask<BodyReading> ReadAsync(PipeReader reader, string name, WebhookReceivingInForce.Settings settings, WebhookSession session, ReceivedBody body)
    {
        while (true)
        {
            ReadResult read;
            try
            {
                read = await reader.ReadAsync(CancellationToken.None).ConfigureAwait(false);
            }
            catch (BadHttpRequestException exception) when (exception.StatusCode is StatusCodes.Status413PayloadTooLarge or StatusCodes.Status408RequestTimeout)
            {
                return exception.StatusCode == StatusCodes.Status413PayloadTooLarge ? BodyReading.TooLarge : BodyReading.TooSlow;
            }
            catch (Exception exception) when (exception is OperationCanceledException or IOException)
            {
                return BodyReading.Broken;
            }

            BodyReading? end = null;
            try
            {
                end = await TakeAsync(read.Buffer, name, settings, session, body).ConfigureAwait(false);
            }
            finally
            {
                reader.AdvanceTo(read.Buffer.End);
            }

            if (end is not null || read.IsCompleted || read.IsCanceled)
            {
                return end ?? (read.IsCompleted ? BodyReading.Complete : BodyReading.TooSlow);
            }
        }
    }

    /// <returns>Null when there may be more.</returns>
    private async ValueTask<BodyReading?> TakeAsync(ReadOnlySequence<byte> piece, string name, WebhookReceivingInForce.Settings settings, WebhookSession session, ReceivedBody body)
    {
        if (piece.Length > settings.MaxBodyBytes - body.Length)
        {
            return BodyReading.TooLarge;
        }

        if (!body.TryCount(piece.Length))
        {
            return BodyReading.TooMuchUnverified;
        }

        foreach (ReadOnlyMemory<byte> segment in piece)
        {
            session.Append(segment.Span);
        }

        try
        {
            await body.AppendAsync(piece).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            if (logger is not null)
            {
                Log.NoFile(logger, name, exception);
            }

            return BodyReading.NoFile;
        }

        return null;
    }

    private static async Task AnswerAsync(HttpContext context, string name, WebhookReceivingInForce.Settings settings, BodyReading reading)
    {
        switch (reading)
        {
            case BodyReading.TooLarge:
                await RefuseAsync(context, name, Refusal.TooLarge, "too_large").ConfigureAwait(false);
                break;
            case BodyReading.TooSlow:
                await RefuseAsync(context, name, Refusal.TooSlow, "too_slow").ConfigureAwait(false);
                break;
            case BodyReading.TooMuchUnverified:
                await RefuseAsync(context, name, Refusal.Unavailable, "too_much_unverified", settings.RetryAfter).ConfigureAwait(false);
                break;
            case BodyReading.NoFile:
                await RefuseAsync(context, name, Refusal.Unavailable, "no_file", settings.RetryAfter).ConfigureAwait(false);
                break;
            default:
                // No failure of the server's, and most often nobody is left to hear of it.
                Telemetry.Ended(name, "broken");
                context.Response.StatusCode = StatusCodes.Status400BadRequest;
                break;
        }
    }

    private static Task RefuseAsync(HttpContext context, string name, Refusal refusal, string result, TimeSpan? retryAfter = null)
    {
        Telemetry.Ended(name, result);
        return refusal.WriteAsync(context, retryAfter);
    }

    /// <summary>
    /// What a server has not been asked for it reads all the same, so that the sender hears the answer and the connection can be used again. Past this it closes the connection instead: to read what 1 000 clients have to
    /// say for nothing costs more than all the rest.
    /// </summary>
    private static void LimitDrain(HttpContext context) => LimitServer(context, context.Request.ContentLength is null ? MostDrainedOfUnknownLength : MostDrained);

    /// <summary>Lowers only, and only before the body is read.</summary>
    private static void LimitServer(HttpContext context, long bytes)
    {
        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } feature && (feature.MaxRequestBodySize is not { } now || now > bytes))
        {
            feature.MaxRequestBodySize = bytes;
        }
    }
}
