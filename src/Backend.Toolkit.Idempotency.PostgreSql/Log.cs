using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Idempotency.PostgreSql;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "PostgreSQL idempotency options '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    [LoggerMessage(2, LogLevel.Warning, "PostgreSQL idempotency store '{Name}': expired records cannot be deleted; it is tried again every CleanupInterval. Told once, until it works again.")]
    public static partial void CleanupFailed(ILogger logger, Exception exception, string name);

    [LoggerMessage(3, LogLevel.Warning, "PostgreSQL idempotency store '{Name}': the connection that listens for the ends of runs broke; the next who waits makes another.")]
    public static partial void ListeningBroke(ILogger logger, Exception exception, string name);
}
