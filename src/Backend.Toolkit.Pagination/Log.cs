using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Pagination;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Pagination options '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    [LoggerMessage(2, LogLevel.Warning, "Cursor paginator '{Name}' has no keys and seals under a random one: its cursors end with this process, and other processes refuse them. Configure Keys.")]
    public static partial void RandomKey(ILogger logger, string name);
}
