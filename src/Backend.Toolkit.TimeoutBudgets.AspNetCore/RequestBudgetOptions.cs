using System.Globalization;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

/// <summary>How long a request may take at most, and which word of its caller about it counts.</summary>
public sealed class RequestBudgetOptions
{
    /// <summary>The name of the budget of a request (<see cref="TimeoutBudget.Name"/>) and the label on metrics. Not empty; default <c>request</c>.</summary>
    public string Name { get; set; } = "request";

    /// <summary>
    /// The time that a request has when its endpoint does not say otherwise (<c>WithTimeoutBudget</c>); the caller's headers shorten it. Greater than 0, or
    /// <see cref="Timeout.InfiniteTimeSpan"/>: only callers and endpoints set deadlines. No upper limit; default infinite, because a deadline that
    /// nobody asked for would cut downloads, event streams and WebSockets.
    /// </summary>
    public TimeSpan Maximum { get; set; } = Timeout.InfiniteTimeSpan;

    /// <summary>
    /// A request whose headers say less than this is answered 503 at once, since its answer would find nobody. Zero or greater; default 5 ms. A request with 0 left is
    /// always answered so.
    /// </summary>
    public TimeSpan MinimumBudget { get; set; } = TimeSpan.FromMilliseconds(5);

    /// <summary>Whether <c>x-envoy-expected-rq-timeout-ms</c> shortens the budget too, by the same rules as <c>Timeout-Budget</c>. Default false.</summary>
    public bool ReadEnvoyTimeout { get; set; }

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (string.IsNullOrWhiteSpace(Name))
        {
            yield return Problem(nameof(Name), "not empty", $"'{Name}'");
        }

        if (!IsValidMaximum(Maximum))
        {
            yield return Problem(nameof(Maximum), "greater than 0, or Timeout.InfiniteTimeSpan (-00:00:00.0010000)", Maximum);
        }

        if (MinimumBudget < TimeSpan.Zero)
        {
            yield return Problem(nameof(MinimumBudget), "zero or greater", MinimumBudget);
        }
    }

    internal static bool IsValidMaximum(TimeSpan maximum) => maximum > TimeSpan.Zero || maximum == Timeout.InfiniteTimeSpan;

    internal void ThrowIfInvalid()
    {
        List<string> problems = [.. Problems()];
        if (problems.Count > 0)
        {
            throw new OptionsValidationException(Name, GetType(), problems);
        }
    }

    private string Problem(string property, string rule, object? value) =>
        Invariant($"{(string.IsNullOrWhiteSpace(Name) ? GetType().Name : Name)}: {property} must be {rule}, but is {value}.");

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
