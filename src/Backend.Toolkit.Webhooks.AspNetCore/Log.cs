using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Webhooks.AspNetCore;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Receiving webhooks '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    /// <summary>Anybody can cause it, so it is for those who look.</summary>
    [LoggerMessage(2, LogLevel.Debug, "Webhook '{Name}': refused, {Reason}.")]
    public static partial void Refused(ILogger logger, string name, WebhookVerification reason);

    [LoggerMessage(3, LogLevel.Error, "Webhook '{Name}': the replay guard could not reserve; the message was not handled, and was answered 503.")]
    public static partial void NotReserved(ILogger logger, string name, Exception exception);

    [LoggerMessage(4, LogLevel.Error, "Webhook '{Name}': the message was handled, but the replay guard could not commit it; when the lease has ended, a replay is handled again.")]
    public static partial void NotCommitted(ILogger logger, string name, Exception exception);

    [LoggerMessage(5, LogLevel.Error, "Webhook '{Name}': the message was not handled, and the replay guard could not release it; until the lease has ended, it is answered 409.")]
    public static partial void NotReleased(ILogger logger, string name, Exception exception);

    [LoggerMessage(6, LogLevel.Warning, "Webhook '{Name}': the handler took longer than the guard's lease, so that the message may be handled twice.")]
    public static partial void LeaseEnded(ILogger logger, string name);

    [LoggerMessage(7, LogLevel.Error, "Webhook '{Name}': a body could not be written to a temporary file; the message was answered 503.")]
    public static partial void NoFile(ILogger logger, string name, Exception exception);
}
