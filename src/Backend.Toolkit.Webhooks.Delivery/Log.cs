using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Webhooks.Delivery;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Webhook delivery options '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    [LoggerMessage(2, LogLevel.Warning, "Webhook delivery '{Name}': Protect is not set, so secrets are stored as they are.")]
    public static partial void SecretsAreNotProtected(ILogger logger, string name);

    [LoggerMessage(3, LogLevel.Warning, "Webhook delivery '{Name}': endpoint {EndpointId} is disabled: {Reason}.")]
    public static partial void EndpointDisabled(ILogger logger, string name, string endpointId, string reason);

    [LoggerMessage(4, LogLevel.Error, "Webhook delivery '{Name}': the store failed; nothing is sent until it answers again.")]
    public static partial void StoreIsDown(ILogger logger, Exception exception, string name);

    [LoggerMessage(5, LogLevel.Information, "Webhook delivery '{Name}': the store answers again.")]
    public static partial void StoreIsBack(ILogger logger, string name);

    [LoggerMessage(6, LogLevel.Error, "Webhook delivery '{Name}': the secret of endpoint {EndpointId} could not be read. Is Unprotect still able to?")]
    public static partial void SecretIsUnreadable(ILogger logger, string name, string endpointId);

    [LoggerMessage(7, LogLevel.Error, "Webhook delivery '{Name}': what is finished was not deleted, and what is pending at disabled endpoints not made dead letters; it is tried again every 5 s.")]
    public static partial void MaintenanceFailed(ILogger logger, Exception exception, string name);
}
