namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>How a database would find a page.</summary>
public sealed class PageExplanation
{
    internal PageExplanation(IReadOnlyList<string> problems, string? missingIndex, string sql, string plan)
    {
        Problems = problems;
        MissingIndex = missingIndex;
        Sql = sql;
        Plan = plan;
    }

    /// <summary>Whether each branch of the page is one descent of an index, whose rows come in the order of the page.</summary>
    public bool IsSeek => Problems.Count == 0;

    /// <summary>What is not a seek, a sentence each, with the branch.</summary>
    public IReadOnlyList<string> Problems { get; }

    /// <summary>The index to make, such as <c>Orders (created DESC, id DESC)</c>; null: none is missing. Columns that the query compares with <c>=</c> go before these.</summary>
    public string? MissingIndex { get; }

    /// <summary>The statement of the page.</summary>
    public string Sql { get; }

    /// <summary>What the database said of each branch.</summary>
    public string Plan { get; }

    /// <summary>All of it, for the message of a test that fails.</summary>
    /// <returns>A few lines.</returns>
    public override string ToString() => IsSeek
        ? $"A seek.\n{Plan}"
        : $"Not a seek. {string.Join(' ', Problems)}{(MissingIndex is null ? "" : $" Missing index: {MissingIndex}.")}\n{Sql}\n{Plan}";
}
