namespace Backend.Toolkit.RetryPolicies;

/// <summary>What the attempt before this one ended with.</summary>
public enum RetryOutcome
{
    /// <summary>There was none: this is the first attempt.</summary>
    None,

    /// <summary>An exception.</summary>
    Exception,

    /// <summary>A result that <see cref="RetryPolicyOptions.RetryOn{TResult}"/> matched.</summary>
    Result,
}
