namespace Backend.Toolkit.RetryPolicies;

/// <summary>What becomes of a call after an attempt.</summary>
internal enum Verdict
{
    Succeeded,
    Retry,
    Cancelled,
    NotRetryable,
    OutOfAttempts,
    ToldNever,
    DeadlineTooNear,
    BudgetExhausted,
}
