namespace Backend.Toolkit.RetryPolicies;

/// <summary>How the wait grows from one retry to the next, before the cap and the jitter.</summary>
public enum RetryBackoff
{
    /// <summary>Each wait is <see cref="RetryPolicyOptions.BaseDelay"/>.</summary>
    Constant,

    /// <summary>The n-th wait is n times <see cref="RetryPolicyOptions.BaseDelay"/>.</summary>
    Linear,

    /// <summary>The n-th wait is 2ⁿ⁻¹ times <see cref="RetryPolicyOptions.BaseDelay"/>.</summary>
    Exponential,
}
