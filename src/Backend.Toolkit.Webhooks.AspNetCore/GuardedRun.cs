using System.Runtime.ExceptionServices;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>
/// One run of a handler for a message that it has reserved: hides from the handler that the sender has gone, commits after 2xx, releases after anything else, and lets the response go after that.
/// </summary>
internal sealed class GuardedRun(HttpContext context, string name, WebhookReservation reservation, WebhookReceivingInForce.Settings settings, TimeProvider time, ILogger? logger)
{
    /// <returns>Whether the message was handled.</returns>
    public async Task<bool> RunAsync(RequestDelegate next)
    {
        CancellationToken client = context.RequestAborted;
        IHttpResponseBodyFeature body = context.Features.GetRequiredFeature<IHttpResponseBodyFeature>();
        var held = new HeldResponse(body, settings.MaxBytesInMemory);

        // Not disposed of: what the handler has left behind may still ask it.
        var lifetime = new CancellationTokenSource();
        context.Features.Set<IHttpResponseBodyFeature>(held);
        context.RequestAborted = lifetime.Token;
        Exception? failure = null;

        // When the lease has ended somebody else may handle the message.
        TimeSpan limit = settings.MaxRunTime < reservation.Lease ? settings.MaxRunTime : reservation.Lease;

        // Asynchronously: what the handler has registered may throw, which nothing would catch on a timer's thread.
        ITimer timer = time.CreateTimer(static lifetime => _ = ((CancellationTokenSource)lifetime!).CancelAsync(), lifetime, limit, Timeout.InfiniteTimeSpan);
        await using (timer.ConfigureAwait(false))
        {
            try
            {
                await next(context).ConfigureAwait(false);
                await held.FlushWriterAsync().ConfigureAwait(false);
            }
            catch (Exception exception)
            {
                failure = exception;
            }
        }

        context.Features.Set(body);
        context.RequestAborted = client;
        bool handled = failure is null && context.Response.StatusCode is >= 200 and < 300;
        await (handled ? CommitAsync() : ReleaseAsync()).ConfigureAwait(false);
        if (failure is null)
        {
            try
            {
                await held.SendAsync(context.Response, client).ConfigureAwait(false);
            }
            catch (Exception exception) when (client.IsCancellationRequested && exception is OperationCanceledException or IOException)
            {
                // The outcome is recorded for the sender's next attempt.
            }
        }
        else
        {
            held.Discard();
            if (failure is OperationCanceledException && lifetime.IsCancellationRequested && !context.Response.HasStarted)
            {
                context.Response.Clear();
                await Refusal.Unavailable.WriteAsync(context, settings.RetryAfter).ConfigureAwait(false);
            }
            else
            {
                ExceptionDispatchInfo.Throw(failure);
            }
        }

        return handled;
    }

    /// <summary>The effect has been made: no token ends this, and its failure does not have the sender try again.</summary>
    private async Task CommitAsync()
    {
        try
        {
            if (!await WithinAsync(reservation.CommitAsync(CancellationToken.None)).ConfigureAwait(false) && logger is not null)
            {
                Log.LeaseEnded(logger, name);
            }
        }
        catch (Exception exception)
        {
            if (logger is not null)
            {
                Log.NotCommitted(logger, name, exception);
            }
        }
    }

    private async Task ReleaseAsync()
    {
        try
        {
            await WithinAsync(reservation.ReleaseAsync(CancellationToken.None)).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            if (logger is not null)
            {
                Log.NotReleased(logger, name, exception);
            }
        }
    }

    /// <exception cref="TimeoutException">The store took too long; what it does after that is not known here.</exception>
    private ValueTask<bool> WithinAsync(ValueTask<bool> answer) => answer.IsCompleted ? answer : new ValueTask<bool>(answer.AsTask().WaitAsync(settings.StoreTimeout, time));
}
