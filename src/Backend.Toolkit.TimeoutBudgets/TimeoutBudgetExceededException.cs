using System.Globalization;

namespace Backend.Toolkit.TimeoutBudgets;

/// <summary>A timeout budget ran out. Thrown by the layer whose deadline it was; the layers inside it saw a cancellation.</summary>
public sealed class TimeoutBudgetExceededException : TimeoutException
{
    /// <summary>Creates the exception.</summary>
    /// <param name="name">The name of the layer whose deadline it was; empty when it has none.</param>
    /// <param name="total">The time that the layer had.</param>
    /// <param name="elapsed">The time that it took.</param>
    /// <param name="innerException">The cancellation by which the action ended, if it did.</param>
    public TimeoutBudgetExceededException(string name, TimeSpan total, TimeSpan elapsed, Exception? innerException = null)
        : base(Describe(name, total, elapsed), innerException)
    {
        Name = name;
        Total = total;
        Elapsed = elapsed;
    }

    /// <summary>The name of the layer whose deadline it was: <see cref="TimeoutBudgetOptions.Name"/>.</summary>
    public string Name { get; }

    /// <summary>The time that the layer had when it started.</summary>
    public TimeSpan Total { get; }

    /// <summary>The time from the start of the layer to this exception; never less than <see cref="Total"/>.</summary>
    public TimeSpan Elapsed { get; }

    private static string Describe(string name, TimeSpan total, TimeSpan elapsed) => string.Create(
        CultureInfo.InvariantCulture, $"The timeout budget{(string.IsNullOrEmpty(name) ? "" : $" '{name}'")} of {total} is exceeded after {elapsed}.");
}
