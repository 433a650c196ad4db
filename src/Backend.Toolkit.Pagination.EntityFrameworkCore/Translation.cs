using System.Linq.Expressions;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Query;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>Finds out which part of a paged query has no translation, by translating the parts.</summary>
internal static class Translation
{
    /// <summary>What Entity Framework throws for what it does not translate; it throws them for much else, too. Some set operations end in a null reference.</summary>
    public static bool MayHaveFailed(Exception exception) =>
        exception is (InvalidOperationException or NotSupportedException or NullReferenceException or ArgumentException or KeyNotFoundException or InvalidCastException) and not ObjectDisposedException;

    /// <returns>Null: all parts can be translated, so something else went wrong.</returns>
    public static PagedQueryException? Blame<TSource>(IAsyncQueryProvider provider, Seek<TSource> seek, Expression item, Expression rows, Exception exception)
    {
        if (Fails(provider, rows) is not Exception failure)
        {
            return null;
        }

        foreach (MethodCallExpression call in Operators(seek.Source))
        {
            if (Fails(provider, call) is Exception ofOperator)
            {
                return new PagedQueryException(call.Method.Name, $"The query cannot be translated from its operator {call.Method.Name} on: {ofOperator.Message}", exception);
            }
        }

        foreach (KeyColumn<TSource> column in seek.Columns)
        {
            if (Fails(provider, column.OrderBy(seek.Source, isFirst: true, SortDirection.Ascending, other: false)) is Exception ofColumn)
            {
                return new PagedQueryException(column.Name, $"Column {column.Name} of the keyset, {column.Key}, cannot be translated: {ofColumn.Message}", exception);
            }
        }

        for (int i = 0; i < seek.Plan.Page.Count; i++)
        {
            if (Fails(provider, seek.Branch(seek.Plan.Page[i])) is Exception ofBranch)
            {
                string name = seek.Columns[seek.Plan.Page[i].Terms is [.., SeekTerm last] ? last.Column : 0].Name;
                return new PagedQueryException(name, $"Column {name} of the keyset cannot be compared: {ofBranch.Message}", exception);
            }
        }

        Expression select = Expression.Call(
            typeof(Queryable), nameof(Queryable.Select), [typeof(TSource), item.Type], seek.Source, Expression.Quote(Expression.Lambda(item, KeyColumn<TSource>.Row)));
        return Fails(provider, select) is Exception ofSelect
            ? new PagedQueryException("Select", $"The projection cannot be translated: {ofSelect.Message}", exception)
            : Fails(provider, seek.Page()) is Exception ofUnion
                ? new PagedQueryException("Concat", $"The rows of this query cannot stand in the UNION ALL of a seek: {ofUnion.Message} Page the entities, and give what is made of them as select: ToPageAsync(…, select).", exception)
                : new PagedQueryException("Select", $"The rows of a seek cannot be projected so: {failure.Message}", exception);
    }

    private static Exception? Fails(IAsyncQueryProvider provider, Expression query)
    {
        try
        {
            _ = provider.CreateQuery(query).ToQueryString();
            return null;
        }
        catch (Exception exception) when (MayHaveFailed(exception))
        {
            return exception;
        }
    }

    /// <summary>The operators of a query, first to last; those that make a query each.</summary>
    private static Stack<MethodCallExpression> Operators(Expression query)
    {
        var calls = new Stack<MethodCallExpression>();
        for (; query is MethodCallExpression { Arguments: [Expression first, ..] } call; query = first)
        {
            if (typeof(IQueryable).IsAssignableFrom(call.Type))
            {
                calls.Push(call);
            }
        }

        return calls;
    }
}
