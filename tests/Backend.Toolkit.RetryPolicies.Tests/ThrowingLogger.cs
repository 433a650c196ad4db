using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RetryPolicies.Tests;

internal sealed class ThrowingLogger : ILogger<RetryPolicy>
{
    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
        throw new InvalidOperationException("logger");
}
