using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.CircuitBreakers;

internal static partial class Log
{
    [LoggerMessage(1, LogLevel.Error, "Circuit breaker '{Name}': the reloaded options are invalid, the last valid ones stay in force. {Problems}")]
    public static partial void InvalidReload(ILogger logger, string name, string problems);

    public static void Changed(ILogger logger, string name, in Change change, TimeSpan duration)
    {
        switch (change)
        {
            case { Current: CircuitState.Open, Previous: CircuitState.Closed }:
                Opened(logger, name, duration, change.Counts.Successes, change.Counts.Failures, change.Counts.Slow);
                break;
            case { Current: CircuitState.Open }:
                Reopened(logger, name, duration);
                break;
            case { Current: CircuitState.Closed }:
                Closed(logger, name);
                break;
            case { Current: CircuitState.Isolated }:
                Isolated(logger, name);
                break;
        }
    }

    [LoggerMessage(2, LogLevel.Warning, "Circuit '{Name}' opened for {Break}: {Successes} successes, {Failures} failures, {Slow} slow calls in the window.")]
    private static partial void Opened(ILogger logger, string name, TimeSpan @break, long successes, long failures, long slow);

    [LoggerMessage(3, LogLevel.Warning, "Circuit '{Name}' re-opened for {Break}: its probes did not succeed.")]
    private static partial void Reopened(ILogger logger, string name, TimeSpan @break);

    [LoggerMessage(4, LogLevel.Information, "Circuit '{Name}' closed.")]
    private static partial void Closed(ILogger logger, string name);

    [LoggerMessage(7, LogLevel.Warning, "Circuit '{Name}' was isolated; it stays open until it is reset.")]
    private static partial void Isolated(ILogger logger, string name);

    [LoggerMessage(5, LogLevel.Error, "Circuit '{Name}': BreakDurationFor failed or returned {Duration}; the fixed BreakDuration is used.")]
    public static partial void BadBreakDuration(ILogger logger, Exception? exception, string name, TimeSpan? duration);

    [LoggerMessage(6, LogLevel.Error, "Circuit '{Name}': somebody who was told of a change threw; the circuit is unaffected.")]
    public static partial void HandlerThrew(ILogger logger, Exception? exception, string name);

    [LoggerMessage(8, LogLevel.Error, "Circuit '{Name}': IsFailure or a FailOn predicate threw; the call was not counted.")]
    public static partial void PredicateThrew(ILogger logger, Exception? exception, string name);
}
