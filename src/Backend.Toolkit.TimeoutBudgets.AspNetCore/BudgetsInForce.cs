using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

/// <summary>The options as they are for the next request, and the clock.</summary>
internal sealed class BudgetsInForce
{
    private readonly ILogger? _logger;
    private volatile Settings _settings;

    public BudgetsInForce(RequestBudgetOptions options, TimeProvider? timeProvider, ILogger? logger)
    {
        options.ThrowIfInvalid();
        TimeProvider = timeProvider ?? TimeProvider.System;
        _logger = logger;
        _settings = new Settings(options);
    }

    public TimeProvider TimeProvider { get; }

    public Settings Current => _settings;

    /// <summary>Invalid ones come only where <c>AddTimeoutBudgets</c> was not called, so that nothing else has looked at them.</summary>
    public void Update(RequestBudgetOptions options)
    {
        List<string> problems = [.. options.Problems()];
        if (problems.Count == 0)
        {
            _settings = new Settings(options);
        }
        else if (_logger is not null)
        {
            Log.InvalidReload(_logger, _settings.Name, string.Join("; ", problems));
        }
    }

    /// <summary>The options as they were when they came into force.</summary>
    internal sealed class Settings(RequestBudgetOptions options)
    {
        public string Name { get; } = options.Name;

        public TimeSpan Maximum { get; } = options.Maximum;

        public TimeSpan MinimumBudget { get; } = options.MinimumBudget;

        public bool ReadEnvoyTimeout { get; } = options.ReadEnvoyTimeout;
    }
}
