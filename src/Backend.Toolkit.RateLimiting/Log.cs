using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RateLimiting;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Rate limit options '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    [LoggerMessage(2, LogLevel.Error, "Rate limiter '{Name}': {Option} threw; {Instead}.")]
    public static partial void DelegateThrew(ILogger logger, Exception exception, string name, string option, string instead);

    [LoggerMessage(3, LogLevel.Error, "Rate limiter '{Name}': LimitsFor gave limits that cannot be used ({Limits}): more limits than Limits has, out of range, in exact mode more permits, or the 255th different list. Limits hold for the key.")]
    public static partial void UnusableLimits(ILogger logger, string name, string limits);
}
