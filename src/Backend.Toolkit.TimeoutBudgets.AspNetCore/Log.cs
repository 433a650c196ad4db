using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Request budgets '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);
}
