using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Webhooks;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Webhook options '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    [LoggerMessage(2, LogLevel.Error, "Webhook {What} '{Name}': no key is in force; {Consequence}. Look at NotBefore and Expires of Keys.")]
    public static partial void NoKeyInForce(ILogger logger, string what, string name, string consequence);

    [LoggerMessage(3, LogLevel.Warning, "Webhook replay guard '{Name}' is full of {Keys} messages that must not be forgotten: new ones are refused until some expire. Raise MaxKeys, shorten RetryWindow, or give it a store.")]
    public static partial void GuardFull(ILogger logger, string name, int keys);
}
