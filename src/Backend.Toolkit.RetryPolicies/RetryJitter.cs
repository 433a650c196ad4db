namespace Backend.Toolkit.RetryPolicies;

/// <summary>
/// How a wait is spread at random, so that callers that failed together do not come back together. The cap comes first, the jitter after it.
/// The formulas are those of Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
/// </summary>
public enum RetryJitter
{
    /// <summary>Anything from zero to the capped wait: the least load on the other side.</summary>
    Full,

    /// <summary>Half of the capped wait, and anything up to the other half.</summary>
    Equal,

    /// <summary>
    /// Anything from <see cref="RetryPolicyOptions.BaseDelay"/> to three times the previous wait, that upper end capped. It grows by itself:
    /// <see cref="RetryPolicyOptions.Backoff"/> is not used.
    /// </summary>
    Decorrelated,

    /// <summary>Exactly the capped wait. A fleet that failed together comes back together.</summary>
    None,
}
