namespace Backend.Toolkit.RetryPolicies;

/// <summary>The rule by which a <see cref="RetryBudget"/> allows retries.</summary>
public enum RetryBudgetRule
{
    /// <summary>
    /// gRPC's retry throttling (proposal A6): a failed attempt takes one token, a successful one gives back
    /// <see cref="RetryBudgetOptions.TokenRatio"/>, and only above half of <see cref="RetryBudgetOptions.MaxTokens"/> is anything retried. It reacts to a
    /// failing dependency within a few calls, and reads no clock.
    /// </summary>
    Tokens,

    /// <summary>
    /// Retries are at most a share of the recent calls, with a floor for low traffic (Finagle, Linkerd). It bounds the extra load whatever the
    /// failure ratio, and needs no failure to recover from.
    /// </summary>
    Ratio,
}
