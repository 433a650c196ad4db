using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RateLimiting.AspNetCore;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Rate limit policy '{Policy}': the cost of a request could not be told; it counts as one permit.")]
    public static partial void NoCost(ILogger logger, Exception? exception, string policy);

    [LoggerMessage(2, LogLevel.Error, "Rate limit policy '{Policy}': OnRefused threw; the request is refused with problem details.")]
    public static partial void OnRefusedThrew(ILogger logger, Exception exception, string policy);
}
