namespace Backend.Toolkit.RetryPolicies;

/// <summary>
/// What is retried, how often, after which wait and within which budget. The defaults suit a call that a user waits for. A delegate here that
/// throws is logged as an error and never hides the outcome of the call: each says what holds instead.
/// </summary>
public sealed class RetryPolicyOptions : IValidOptions
{
    private static TimeSpan LongestDelay { get; } = TimeSpan.FromDays(1);

    /// <summary>The label on metrics and in logs. Set by <c>AddRetryPolicy</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>The most attempts of one call, the first included. 1 (never retry) to 100; default 3.</summary>
    public int MaxAttempts { get; set; } = 3;

    /// <summary>How the wait grows. Default <see cref="RetryBackoff.Exponential"/>.</summary>
    public RetryBackoff Backoff { get; set; } = RetryBackoff.Exponential;

    /// <summary>The wait before the first retry, before jitter; zero: no wait at all. 0 to 1 day; default 200 ms.</summary>
    public TimeSpan BaseDelay { get; set; } = TimeSpan.FromMilliseconds(200);

    /// <summary>The cap on the wait, before jitter. <see cref="BaseDelay"/> to 1 day; default 10 s.</summary>
    public TimeSpan MaxDelay { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>How the capped wait is spread at random. Default <see cref="RetryJitter.Full"/>.</summary>
    public RetryJitter Jitter { get; set; } = RetryJitter.Full;

    /// <summary>
    /// Which exceptions are worth another attempt. Not asked once the caller's own token is cancelled: then nothing is retried. When it
    /// throws, the call is not retried. Default null: all but argument errors (<see cref="ArgumentException"/>); a cancellation that is not the
    /// caller's, such as a timeout inside the action, is retried.
    /// </summary>
    public Func<Exception, bool>? ShouldRetry { get; set; }

    /// <summary>
    /// What the other side said about when to come back: null: nothing; <see cref="Timeout.InfiniteTimeSpan"/>: never; anything else replaces the
    /// backoff, without jitter, up to <see cref="MaxDelayHint"/>; less than zero counts as zero. When it throws, it said nothing. Default null.
    /// </summary>
    public Func<Exception, TimeSpan?>? DelayHint { get; set; }

    /// <summary>The longest wait that a hint may ask for; a longer one is cut to this. Above 0 to 1 day; default 30 s.</summary>
    public TimeSpan MaxDelayHint { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// What is left of the caller's deadline, asked before each wait: when the wait plus <see cref="ExpectedAttemptTime"/> reaches it, the call ends
    /// at once. Null: no deadline; zero or less: none left. When it throws, there is none. Default null.
    /// </summary>
    public Func<TimeSpan?>? TimeLeft { get; set; }

    /// <summary>How long an attempt is expected to take, kept free after the wait when there is a deadline. 0 to 1 day; default 0.</summary>
    public TimeSpan ExpectedAttemptTime { get; set; }

    /// <summary>
    /// What bounds the retries of all policies that share it; <see cref="RetryBudget.Unlimited"/>: nothing does. Default null: a budget of the policy's own, with
    /// the defaults of <see cref="RetryBudgetOptions"/> (10 tokens, 0.1). Take it from the container or a variable: a budget made inside the
    /// delegate that configures these options is a new, full one at each reload.
    /// </summary>
    public RetryBudget? Budget { get; set; }

    internal List<object> ResultPredicates { get; } = [];

    internal List<object> ResultHints { get; } = [];

    /// <summary>Retries a call whose result of type <typeparamref name="TResult"/> the predicate matches. May be called for several types.</summary>
    /// <typeparam name="TResult">The result type of the executions that the predicate judges, matched exactly.</typeparam>
    /// <param name="predicate">True for a result that is worth another attempt. When it throws, the call is not retried and the result comes out.</param>
    /// <returns>These options.</returns>
    public RetryPolicyOptions RetryOn<TResult>(Func<TResult, bool> predicate)
    {
        ArgumentNullException.ThrowIfNull(predicate);
        ResultPredicates.Add(new ResultRule<TResult, bool>(predicate));
        return this;
    }

    /// <summary>Reads from a result that is retried when to come back, as <see cref="DelayHint"/> does from an exception. May be called for several types.</summary>
    /// <typeparam name="TResult">The result type of the executions that the delegate reads, matched exactly.</typeparam>
    /// <param name="hint">The wait, null for none, <see cref="Timeout.InfiniteTimeSpan"/> for never. Several for one type: the first that is not null holds.</param>
    /// <returns>These options.</returns>
    public RetryPolicyOptions DelayHintFor<TResult>(Func<TResult, TimeSpan?> hint)
    {
        ArgumentNullException.ThrowIfNull(hint);
        ResultHints.Add(new ResultRule<TResult, TimeSpan?>(hint));
        return this;
    }

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (MaxAttempts is < 1 or > 100)
        {
            yield return this.Problem(nameof(MaxAttempts), "between 1 and 100", MaxAttempts);
        }

        if (!Enum.IsDefined(Backoff))
        {
            yield return this.Problem(nameof(Backoff), "Constant, Linear or Exponential", Backoff);
        }

        if (BaseDelay < TimeSpan.Zero || BaseDelay > LongestDelay)
        {
            yield return this.Problem(nameof(BaseDelay), "between 0 and 1.00:00:00", BaseDelay);
        }

        if (MaxDelay < BaseDelay || MaxDelay < TimeSpan.Zero || MaxDelay > LongestDelay)
        {
            yield return this.Problem(nameof(MaxDelay), ValidOptions.Invariant($"between BaseDelay ({BaseDelay}) and 1.00:00:00"), MaxDelay);
        }

        if (!Enum.IsDefined(Jitter))
        {
            yield return this.Problem(nameof(Jitter), "Full, Equal, Decorrelated or None", Jitter);
        }

        if (MaxDelayHint <= TimeSpan.Zero || MaxDelayHint > LongestDelay)
        {
            yield return this.Problem(nameof(MaxDelayHint), "greater than 0 and at most 1.00:00:00", MaxDelayHint);
        }

        if (ExpectedAttemptTime < TimeSpan.Zero || ExpectedAttemptTime > LongestDelay)
        {
            yield return this.Problem(nameof(ExpectedAttemptTime), "between 0 and 1.00:00:00", ExpectedAttemptTime);
        }
    }
}
