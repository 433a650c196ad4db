using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Idempotency.AspNetCore;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Idempotency over HTTP '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    [LoggerMessage(2, LogLevel.Error, "Idempotency '{Name}': the stored response cannot be read by this version of the program; its repeats are answered 500, and do not run.")]
    public static partial void Unreadable(ILogger logger, string name);

    [LoggerMessage(3, LogLevel.Error, "Idempotency over HTTP: TimeLeft threw; MaxRunTime alone holds.")]
    public static partial void TimeLeftThrew(ILogger logger, Exception exception);
}
