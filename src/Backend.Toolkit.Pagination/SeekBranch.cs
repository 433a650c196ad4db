namespace Backend.Toolkit.Pagination;

/// <summary>One descent of an index: conditions that all hold, and the order in which rows are then read.</summary>
public sealed class SeekBranch
{
    internal SeekBranch(SeekTerm[] terms, SeekOrder[] order)
    {
        Terms = Array.AsReadOnly(terms);
        Order = Array.AsReadOnly(order);
    }

    /// <summary>The conditions, from the first column on. None: all rows.</summary>
    public IReadOnlyList<SeekTerm> Terms { get; }

    /// <summary>The order, all columns of it.</summary>
    public IReadOnlyList<SeekOrder> Order { get; }
}
