namespace Backend.Toolkit.TimeoutBudgets;

/// <summary>Who starts scopes: a policy with its options, or a call of <see cref="TimeoutBudget.Start"/>. What those scopes have in common.</summary>
internal class BudgetLayer(DeadlineTable table, string name)
{
    public DeadlineTable Table { get; } = table;

    public string Name { get; } = name;
}
