using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>Waits for a reservation no longer than the store may take. One that comes all the same after that is nobody's, and is released.</summary>
internal static class Reserving
{
    /// <exception cref="TimeoutException">The store took too long.</exception>
    public static async ValueTask<WebhookReservation> WithinAsync(ValueTask<WebhookReservation> reservation, TimeSpan timeout, TimeProvider time, string name, ILogger? logger)
    {
        if (reservation.IsCompleted)
        {
            return await reservation.ConfigureAwait(false);
        }

        Task<WebhookReservation> pending = reservation.AsTask();
        try
        {
            return await pending.WaitAsync(timeout, time).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            _ = ReleaseAsync(pending, name, logger);
            throw;
        }
    }

    private static async Task ReleaseAsync(Task<WebhookReservation> pending, string name, ILogger? logger)
    {
        try
        {
            WebhookReservation late = await pending.ConfigureAwait(false);
            if (late.Status == WebhookReservationStatus.Reserved)
            {
                await late.ReleaseAsync(CancellationToken.None).ConfigureAwait(false);
            }
        }
        catch (Exception exception)
        {
            // Most often that of the reservation; whether it was made is not known.
            if (logger is not null)
            {
                Log.NotReleased(logger, name, exception);
            }
        }
    }
}
