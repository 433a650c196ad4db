using System.Globalization;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.CircuitBreakers;

/// <summary>When a circuit opens, for how long, and how it is probed. The defaults suit a call that a user waits for.</summary>
public class CircuitBreakerOptions
{
    internal static readonly TimeSpan LongestDuration = TimeSpan.FromDays(1);

    /// <summary>The label on metrics, in logs and in exceptions. Set by <c>AddCircuitBreaker</c>; empty: not reported to the state gauge.</summary>
    public string Name { get; set; } = "";

    /// <summary>The time over which calls are counted, in ten buckets. 0.1 s to 1 day; default 30 s.</summary>
    public TimeSpan Window { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>Fewer calls than this in the window never open the circuit by ratio. 1 to 1 000 000; default 20.</summary>
    public int MinimumThroughput { get; set; } = 20;

    /// <summary>Failed ÷ all calls in the window at which the circuit opens. Above 0 to 1; default 0.5.</summary>
    public double FailureRatio { get; set; } = 0.5;

    /// <summary>When set, this many failures in a row open the circuit, and <see cref="FailureRatio"/> is not judged. 1 to 1 000 000; default null.</summary>
    public int? ConsecutiveFailures { get; set; }

    /// <summary>
    /// A call that takes, or has been in flight for, longer than this is slow. 1 ms to 1 day; default null: slow calls are not counted.
    /// A call still in flight counts from this duration plus an eighth of it.
    /// </summary>
    public TimeSpan? SlowCallDuration { get; set; }

    /// <summary>Slow ÷ all calls (in the window, and the slow ones still in flight) at which the circuit opens. Above 0 to 1; default 0.5.</summary>
    public double SlowCallRatio { get; set; } = 0.5;

    /// <summary>How long the circuit stays open the first time. Above 0 to 1 day; default 5 s.</summary>
    public TimeSpan BreakDuration { get; set; } = TimeSpan.FromSeconds(5);

    /// <summary>The factor by which the break grows with each opening in a row; 1: fixed. 1 to 100; default 2.</summary>
    public double BreakGrowth { get; set; } = 2;

    /// <summary>The cap on a growing break, before jitter. <see cref="BreakDuration"/> to 1 day; default 60 s.</summary>
    public TimeSpan MaxBreakDuration { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>The break ends up to this fraction later, at random, so that a fleet does not probe at once. 0 to 1; default 0.1.</summary>
    public double BreakJitter { get; set; } = 0.1;

    /// <summary>
    /// Gives the break from the number of openings in a row (1 is the first), taken as it is: not grown, capped or jittered. Called outside
    /// any lock. When it throws, or returns zero, less, or more than a day, <see cref="BreakDuration"/> holds instead. Default null.
    /// </summary>
    public Func<int, TimeSpan>? BreakDurationFor { get; set; }

    /// <summary>How many probes a half-open circuit admits at once. 1 to 1 000; default 1.</summary>
    public int ProbeCount { get; set; } = 1;

    /// <summary>How many probes must succeed to close the circuit. 1 to 1 000; default 1.</summary>
    public int ProbeSuccesses { get; set; } = 1;

    /// <summary>
    /// How long a half-open round may last from its first probe; without enough successes by then the circuit re-opens.
    /// Above 0 to 1 day; default null: 30 s, or <see cref="SlowCallDuration"/> where that is longer.
    /// </summary>
    public TimeSpan? ProbeLease { get; set; }

    /// <summary>Which exceptions count as failures; the others count as successes. Cancellation of the caller's own token never counts. When it throws, the call is not counted. Default null: all.</summary>
    public Func<Exception, bool>? IsFailure { get; set; }

    /// <summary>Counts and reports what it would have done, and rejects nothing. Default false.</summary>
    public bool Shadow { get; set; }

    internal List<object> ResultPredicates { get; } = [];

    /// <summary>Counts a result of type <typeparamref name="TResult"/> as a failure when the predicate says so. May be called for several types.</summary>
    /// <typeparam name="TResult">The result type of the executions that the predicate judges, matched exactly.</typeparam>
    /// <param name="predicate">True for a result that is a failure. When it throws, that is logged and the call is not counted.</param>
    /// <returns>These options.</returns>
    public CircuitBreakerOptions FailOn<TResult>(Func<TResult, bool> predicate)
    {
        ArgumentNullException.ThrowIfNull(predicate);
        ResultPredicates.Add(new ResultPredicate<TResult>(predicate));
        return this;
    }

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public virtual IEnumerable<string> Problems()
    {
        if (Window < TimeSpan.FromMilliseconds(100) || Window > LongestDuration)
        {
            yield return Problem(nameof(Window), "between 00:00:00.1 and 1.00:00:00", Window);
        }

        if (MinimumThroughput is < 1 or > 1_000_000)
        {
            yield return Problem(nameof(MinimumThroughput), "between 1 and 1000000", MinimumThroughput);
        }

        if (FailureRatio is not (> 0 and <= 1))
        {
            yield return Problem(nameof(FailureRatio), "greater than 0 and at most 1", FailureRatio);
        }

        if (ConsecutiveFailures is < 1 or > 1_000_000)
        {
            yield return Problem(nameof(ConsecutiveFailures), "null or between 1 and 1000000", ConsecutiveFailures);
        }

        if (SlowCallDuration < TimeSpan.FromMilliseconds(1) || SlowCallDuration > LongestDuration)
        {
            yield return Problem(nameof(SlowCallDuration), "null or between 00:00:00.001 and 1.00:00:00", SlowCallDuration);
        }

        if (SlowCallRatio is not (> 0 and <= 1))
        {
            yield return Problem(nameof(SlowCallRatio), "greater than 0 and at most 1", SlowCallRatio);
        }

        if (BreakDuration <= TimeSpan.Zero || BreakDuration > LongestDuration)
        {
            yield return Problem(nameof(BreakDuration), "greater than 0 and at most 1.00:00:00", BreakDuration);
        }

        if (BreakGrowth is not (>= 1 and <= 100))
        {
            yield return Problem(nameof(BreakGrowth), "between 1 (fixed) and 100", BreakGrowth);
        }

        if (MaxBreakDuration < BreakDuration || MaxBreakDuration > LongestDuration)
        {
            yield return Problem(nameof(MaxBreakDuration), Invariant($"between BreakDuration ({BreakDuration}) and 1.00:00:00"), MaxBreakDuration);
        }

        if (BreakJitter is not (>= 0 and <= 1))
        {
            yield return Problem(nameof(BreakJitter), "between 0 and 1", BreakJitter);
        }

        if (ProbeCount is < 1 or > 1_000)
        {
            yield return Problem(nameof(ProbeCount), "between 1 and 1000", ProbeCount);
        }

        if (ProbeSuccesses is < 1 or > 1_000)
        {
            yield return Problem(nameof(ProbeSuccesses), "between 1 and 1000", ProbeSuccesses);
        }

        if (ProbeLease <= TimeSpan.Zero || ProbeLease > LongestDuration)
        {
            yield return Problem(nameof(ProbeLease), "null or greater than 0 and at most 1.00:00:00", ProbeLease);
        }
    }

    internal void ThrowIfInvalid()
    {
        List<string> problems = [.. Problems()];
        if (problems.Count > 0)
        {
            throw new OptionsValidationException(Name ?? "", GetType(), problems);
        }
    }

    private protected string Problem(string property, string rule, object? value) =>
        Invariant($"{(string.IsNullOrEmpty(Name) ? GetType().Name : Name)}: {property} must be {rule}, but is {value}.");

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}

/// <summary>Keeps the type that the predicate was given for: by variance, the delegate's own may be another.</summary>
internal sealed record ResultPredicate<TResult>(Func<TResult, bool> IsFailure);
