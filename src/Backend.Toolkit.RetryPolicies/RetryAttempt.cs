namespace Backend.Toolkit.RetryPolicies;

/// <summary>Which attempt of a call the action is: for a header, a log line, a smaller request.</summary>
public readonly struct RetryAttempt
{
    internal RetryAttempt(int number, RetryOutcome previousOutcome, TimeSpan delay)
    {
        Number = number;
        PreviousOutcome = previousOutcome;
        Delay = delay;
    }

    /// <summary>1 for the first attempt, 2 for the first retry, up to <see cref="RetryPolicyOptions.MaxAttempts"/>.</summary>
    public int Number { get; }

    /// <summary>What the attempt before ended with.</summary>
    public RetryOutcome PreviousOutcome { get; }

    /// <summary>The wait before this attempt; zero for the first.</summary>
    public TimeSpan Delay { get; }
}
