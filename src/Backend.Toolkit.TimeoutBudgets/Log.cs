using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.TimeoutBudgets;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Timeout budget '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    [LoggerMessage(2, LogLevel.Error, "Timeout budget '{Name}': TotalFor failed or returned {Total}; the fixed Total is used. Said once until the options change.")]
    public static partial void BadTotal(ILogger logger, Exception? exception, string name, TimeSpan? total);
}
