namespace Backend.Toolkit.TimeoutBudgets;

/// <summary>Who starts scopes: a policy with its options, or a call of <see cref="TimeoutBudget.Start"/>. What those scopes have in common.</summary>
internal class BudgetLayer(DeadlineTable table, string name)
{
    public DeadlineTable Table { get; } = table;

    public string Name { get; } = name;

    /// <summary>Whether a user ends the scopes, by <see cref="TimeoutBudget.Dispose"/>; a policy ends its own.</summary>
    public virtual bool IsEndedByUser => true;

    /// <summary>Whether a scope must not hand on an outer scope's token, even when it has nothing to add to it.</summary>
    public virtual bool NeedsOwnToken => false;
}
