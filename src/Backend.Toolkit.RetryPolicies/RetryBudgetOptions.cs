namespace Backend.Toolkit.RetryPolicies;

/// <summary>How many retries a <see cref="RetryBudget"/> allows. The defaults are those of the published rules.</summary>
public sealed class RetryBudgetOptions : IValidOptions
{
    /// <summary>The label on metrics and in logs. Set by <c>AddRetryBudget</c>; empty: not reported to the gauge.</summary>
    public string Name { get; set; } = "";

    /// <summary>Which rule holds; the options of the other one are not used. Default <see cref="RetryBudgetRule.Tokens"/>.</summary>
    public RetryBudgetRule Rule { get; set; }

    /// <summary>Tokens: how many there are at most, and at the start. 1 to 1 000; default 10.</summary>
    public int MaxTokens { get; set; } = 10;

    /// <summary>Tokens: what a success gives back, rounded to thousandths. 0.001 to 1 000; default 0.1.</summary>
    public double TokenRatio { get; set; } = 0.1;

    /// <summary>Ratio: retries ÷ calls within <see cref="Window"/>, rounded to thousandths. 0 to 10; default 0.2.</summary>
    public double RetryRatio { get; set; } = 0.2;

    /// <summary>
    /// Ratio: the retries allowed on top, however few the calls: this number times <see cref="Window"/> in seconds, within one window, at once or spread.
    /// 0 to 1 000 000; default 10.
    /// </summary>
    public int MinRetriesPerSecond { get; set; } = 10;

    /// <summary>Ratio: the time over which calls and retries are counted, in ten buckets. 1 s to 10 minutes; default 10 s.</summary>
    public TimeSpan Window { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (!Enum.IsDefined(Rule))
        {
            yield return this.Problem(nameof(Rule), "Tokens or Ratio", Rule);
        }

        if (MaxTokens is < 1 or > 1_000)
        {
            yield return this.Problem(nameof(MaxTokens), "between 1 and 1000", MaxTokens);
        }

        if (TokenRatio is not (>= 0.001 and <= 1_000))
        {
            yield return this.Problem(nameof(TokenRatio), "between 0.001 and 1000", TokenRatio);
        }

        if (RetryRatio is not (>= 0 and <= 10))
        {
            yield return this.Problem(nameof(RetryRatio), "between 0 and 10", RetryRatio);
        }

        if (MinRetriesPerSecond is < 0 or > 1_000_000)
        {
            yield return this.Problem(nameof(MinRetriesPerSecond), "between 0 and 1000000", MinRetriesPerSecond);
        }

        if (Window < TimeSpan.FromSeconds(1) || Window > TimeSpan.FromMinutes(10))
        {
            yield return this.Problem(nameof(Window), "between 00:00:01 and 00:10:00", Window);
        }
    }
}
