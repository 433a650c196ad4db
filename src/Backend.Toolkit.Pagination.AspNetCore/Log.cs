using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Pagination.AspNetCore;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Pagination '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);
}
