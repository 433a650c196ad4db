using System.Globalization;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.TimeoutBudgets;

/// <summary>How long an execution may take in all, and what happens when it does not stop in time.</summary>
public sealed class TimeoutBudgetOptions
{
    /// <summary>The label on metrics, in logs and in exceptions. Set by <c>AddTimeoutBudget</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>
    /// The time that one execution has, everything inside it included. Zero: expired at once, the action is not started.
    /// <see cref="Timeout.InfiniteTimeSpan"/>: no deadline of its own. No upper limit; default 30 s.
    /// </summary>
    public TimeSpan Total { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// Gives the total of the execution that is about to start, for example a slice of the ambient budget. When it gives null, throws, or
    /// gives a negative time other than <see cref="Timeout.InfiniteTimeSpan"/>, <see cref="Total"/> holds instead. Default null.
    /// </summary>
    public Func<TimeSpan?>? TotalFor { get; set; }

    /// <summary>
    /// Returns to the caller on time even when the action ignores its token: at the deadline with the exception, at the caller's cancellation
    /// with that. The action goes on alone; its late result or failure is observed and dropped. Default false: an action that ignores its token is waited for.
    /// An action that blocks its thread before its first await blocks the caller either way.
    /// </summary>
    public bool AbandonOnExpiry { get; set; }

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (!IsValidTotal(Total))
        {
            yield return Problem(nameof(Total), "zero, greater than 0, or Timeout.InfiniteTimeSpan (-00:00:00.0010000)", Total);
        }
    }

    internal static bool IsValidTotal(TimeSpan total) => total >= TimeSpan.Zero || total == Timeout.InfiniteTimeSpan;

    internal void ThrowIfInvalid()
    {
        List<string> problems = [.. Problems()];
        if (problems.Count > 0)
        {
            throw new OptionsValidationException(Name, GetType(), problems);
        }
    }

    private string Problem(string property, string rule, object? value) =>
        Invariant($"{(Name.Length > 0 ? Name : GetType().Name)}: {property} must be {rule}, but is {value}.");

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
