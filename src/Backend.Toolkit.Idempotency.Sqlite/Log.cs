using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Idempotency.Sqlite;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "SQLite idempotency store options '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    [LoggerMessage(2, LogLevel.Warning, "SQLite idempotency store '{Name}': expired records could not be deleted; the file grows until they are. Told once until it succeeds.")]
    public static partial void CleanupFailed(ILogger logger, Exception exception, string name);
}
