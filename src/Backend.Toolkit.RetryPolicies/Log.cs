using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RetryPolicies;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Retry options '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    [LoggerMessage(2, LogLevel.Warning, "Retry budget '{Budget}' is exhausted (seen by retry policy '{Name}'): failures come out without a retry until calls succeed again.")]
    public static partial void BudgetExhausted(ILogger logger, string budget, string name);

    [LoggerMessage(3, LogLevel.Debug, "Retry policy '{Name}' gave up at attempt {Attempts}: {Reason}.")]
    public static partial void GaveUp(ILogger logger, string name, int attempts, Verdict reason);

    [LoggerMessage(4, LogLevel.Error, "Retry policy '{Name}': {Option} threw; {Instead}.")]
    public static partial void DelegateThrew(ILogger logger, Exception exception, string name, string option, string instead);
}
