using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Http;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Outbound policy '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    [LoggerMessage(2, LogLevel.Warning, "Outbound policy '{Name}': {Method} {Authority} {Outcome} after {Attempts} attempts and {Elapsed}: {Detail}{Remark}")]
    public static partial void Failed(
        ILogger logger, string name, string method, string authority, string outcome, int attempts, TimeSpan elapsed, string detail, string remark);

    [LoggerMessage(3, LogLevel.Error, "Outbound policy '{Name}': {Option} failed, so {Instead}.")]
    public static partial void DelegateFailed(ILogger logger, Exception? exception, string name, string option, string instead);
}
