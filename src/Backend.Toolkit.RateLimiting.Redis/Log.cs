using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RateLimiting.Redis;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Redis rate limit options '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    [LoggerMessage(2, LogLevel.Error, "Redis rate limiter '{Name}': {Option} threw or gave what cannot be used; {Instead}.")]
    public static partial void DelegateFailed(ILogger logger, Exception? exception, string name, string option, string instead);

    [LoggerMessage(3, LogLevel.Error, "Redis rate limiter '{Name}': the store failed {Failures} times in a row and is skipped, but for one call a second.")]
    public static partial void StoreIsSkipped(ILogger logger, Exception exception, string name, int failures);

    [LoggerMessage(4, LogLevel.Information, "Redis rate limiter '{Name}': the store answers again.")]
    public static partial void StoreIsBack(ILogger logger, string name);

    [LoggerMessage(5, LogLevel.Error, "Redis rate limiter '{Name}': the key {Key} holds something else and cannot be counted under; delete it, or choose another KeyPrefix. Told once a minute at most.")]
    public static partial void ForeignValue(ILogger logger, string name, string key);

    [LoggerMessage(6, LogLevel.Warning, "Redis rate limiter '{Name}': {Lost} could not be told to the store. Told once a minute at most.")]
    public static partial void NotSettled(ILogger logger, Exception exception, string name, string lost);
}
