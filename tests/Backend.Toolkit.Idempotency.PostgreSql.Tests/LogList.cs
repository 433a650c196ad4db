using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

/// <summary>Keeps what is logged, by all categories of a host or by one object.</summary>
internal sealed class LogList : ILogger<PostgreSqlIdempotencyStore>, ILoggerProvider
{
    private readonly ConcurrentQueue<(LogLevel Level, string Message)> _entries = [];

    public (LogLevel Level, string Message)[] Entries => [.. _entries];

    public ILogger CreateLogger(string categoryName) => this;

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => _entries.Enqueue((logLevel, formatter(state, exception)));

    public void Dispose()
    {
    }
}
