using System.Diagnostics.Metrics;

namespace Backend.Toolkit.TimeoutBudgets;

/// <summary>The meter <c>Backend.Toolkit.TimeoutBudgets</c>. Label: the name of the budget.</summary>
internal static class Telemetry
{
    private static readonly Meter Meter = new("Backend.Toolkit.TimeoutBudgets");

    private static readonly Counter<long> ExceededExecutions = Meter.CreateCounter<long>(
        "backend.toolkit.timeout_budget.exceeded", "{execution}", "Executions that ended with TimeoutBudgetExceededException.");

    private static readonly Counter<long> AbandonedExecutions = Meter.CreateCounter<long>(
        "backend.toolkit.timeout_budget.abandoned", "{execution}", "Executions whose caller went on while the action was still running (AbandonOnExpiry).");

    private static readonly Counter<long> CallbackFailures = Meter.CreateCounter<long>(
        "backend.toolkit.timeout_budget.callback_failures", "{failure}", "Expiries at which a callback registered on the token threw.");

    public static void Exceeded(string name) => Add(ExceededExecutions, name);

    public static void Abandoned(string name) => Add(AbandonedExecutions, name);

    public static void CallbackFailed(string name) => Add(CallbackFailures, name);

    private static void Add(Counter<long> counter, string name)
    {
        if (!counter.Enabled)
        {
            return;
        }

        try
        {
            counter.Add(1, new KeyValuePair<string, object?>("name", name));
        }
        catch (Exception)
        {
            // A listener that throws must not replace the outcome of the call.
        }
    }
}
