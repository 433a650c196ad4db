namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>A query that cannot be paged by that keyset: an operator or a column that has no translation, or one that the database would order wrongly. A mistake in the program, met at the first use; never the fault of a request.</summary>
public sealed class PagedQueryException : NotSupportedException
{
    internal PagedQueryException(string @operator, string message, Exception? innerException = null)
        : base(message, innerException) => Operator = @operator;

    /// <summary>What cannot be done: the operator of the query, such as <c>SelectMany</c>, or the keyset's column, such as <c>CreatedAt</c>.</summary>
    public string Operator { get; }
}
