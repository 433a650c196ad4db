using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Idempotency.Redis;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Redis idempotency store options '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    [LoggerMessage(2, LogLevel.Warning, "Redis idempotency store '{Name}': the server evicts keys by {Policy} when it is full, and a key that is evicted runs again. Set maxmemory-policy to noeviction.")]
    public static partial void Evicts(ILogger logger, string name, string policy);
}
