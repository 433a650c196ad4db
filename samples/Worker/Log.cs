using Microsoft.Extensions.Logging;

namespace Worker;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Warning, "Message {Id} is a dead letter after {Deliveries} deliveries: {Reason}")]
    public static partial void Buried(ILogger logger, string id, int deliveries, string reason);

    [LoggerMessage(2, LogLevel.Error, "The queue cannot be used")]
    public static partial void QueueDown(ILogger logger, Exception exception);
}
