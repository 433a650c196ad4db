using System.Linq.Expressions;
using System.Reflection;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Query;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>Pages of queries of Entity Framework Core, by a seek.</summary>
public static class KeysetQueryableExtensions
{
    /// <summary>
    /// Reads one page, in one statement: the rows after the cursor (or before it), found by a few descents of an index, with exact ends in both directions. Only where nothing is left on that side a second
    /// one asks whether there is anything on the other; and one counts where a total is asked for. A new cursor or size is a parameter: nothing is compiled for it.
    /// </summary>
    /// <typeparam name="T">A row: an entity, or what the query projects it to.</typeparam>
    /// <param name="query">The query, with its filters, includes and tracking; its own order, if any, is replaced. Of PostgreSQL or SQLite.</param>
    /// <param name="paginator">Opens and seals cursors.</param>
    /// <param name="keyset">The order of the rows. Its <c>column:</c> names are not used in SQL here; Entity Framework knows the columns.</param>
    /// <param name="request">What the caller asks for.</param>
    /// <param name="scope">What else cursors are bound to: the tenant, the filter. Whatever the query's filter depends on belongs into it.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The page. A tracking query tracks its rows, and the one after them that told that there are more.</returns>
    /// <exception cref="InvalidCursorException">The cursor is not one of this keyset and scope.</exception>
    /// <exception cref="InvalidPageSizeException">The size is negative, or above the maximum where such are refused.</exception>
    /// <exception cref="PagedQueryException">The query cannot be paged by that keyset; names the operator or column.</exception>
    public static Task<Page<T>> ToPageAsync<T>(this IQueryable<T> query, CursorPaginator paginator, Keyset<T> keyset, PageRequest request, string? scope = null, CancellationToken cancellationToken = default)
    {
        IAsyncQueryProvider provider = Provider(query, paginator, keyset);
        return PageAsync<T, T>(provider, query, paginator, keyset, request, select: null, scope, cancellationToken);
    }

    /// <summary>The same, with a projection that is applied to the rows of the page, after the seek; so it may leave out the keys.</summary>
    /// <typeparam name="T">A row.</typeparam>
    /// <typeparam name="TResult">An item of the page.</typeparam>
    /// <param name="query">The query.</param>
    /// <param name="paginator">Opens and seals cursors.</param>
    /// <param name="keyset">The order of the rows.</param>
    /// <param name="request">What the caller asks for.</param>
    /// <param name="select">Makes an item of a row, as in <c>Select</c>.</param>
    /// <param name="scope">What else cursors are bound to.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The page.</returns>
    /// <exception cref="InvalidCursorException">The cursor is not one of this keyset and scope.</exception>
    /// <exception cref="InvalidPageSizeException">The size is negative, or above the maximum where such are refused.</exception>
    /// <exception cref="PagedQueryException">The query cannot be paged by that keyset; names the operator or column.</exception>
    public static Task<Page<TResult>> ToPageAsync<T, TResult>(
        this IQueryable<T> query, CursorPaginator paginator, Keyset<T> keyset, PageRequest request, Expression<Func<T, TResult>> select, string? scope = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(select);
        IAsyncQueryProvider provider = Provider(query, paginator, keyset);
        return PageAsync<T, TResult>(provider, query, paginator, keyset, request, select, scope, cancellationToken);
    }

    /// <summary>
    /// For tests: asks the database how it would find that page, and says whether each branch is a seek, and which index is missing. PostgreSQL judges with <c>enable_seqscan</c>, <c>enable_bitmapscan</c> and
    /// <c>enable_sort</c> off, in a transaction that is rolled back, since it would rather scan a small table of a test; SQLite by <c>EXPLAIN QUERY PLAN</c>. The page itself is not read.
    /// </summary>
    /// <typeparam name="T">A row.</typeparam>
    /// <param name="query">The query.</param>
    /// <param name="paginator">Opens cursors.</param>
    /// <param name="keyset">The order of the rows.</param>
    /// <param name="request">The page; with a cursor its plan has the branches of a seek, without one it is the first page.</param>
    /// <param name="scope">What else cursors are bound to.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>What the database would do.</returns>
    /// <exception cref="InvalidCursorException">The cursor is not one of this keyset and scope.</exception>
    /// <exception cref="InvalidPageSizeException">The size is negative, or above the maximum where such are refused.</exception>
    /// <exception cref="PagedQueryException">The query cannot be paged by that keyset; names the operator or column.</exception>
    public static Task<PageExplanation> ExplainPageAsync<T>(
        this IQueryable<T> query, CursorPaginator paginator, Keyset<T> keyset, PageRequest request, string? scope = null, CancellationToken cancellationToken = default)
    {
        IAsyncQueryProvider provider = Provider(query, paginator, keyset);
        return new PagedQuery<T, T>(provider, query.Expression, keyset, select: null).ExplainAsync(paginator.Open(keyset, request, scope), cancellationToken);
    }

    private static async Task<Page<TResult>> PageAsync<T, TResult>(
        IAsyncQueryProvider provider, IQueryable<T> query, CursorPaginator paginator, Keyset<T> keyset, PageRequest request, LambdaExpression? select, string? scope, CancellationToken cancellationToken)
    {
        KeysetRequest<T> opened = paginator.Open(keyset, request, scope);
        Page<TResult> page = await new PagedQuery<T, TResult>(provider, query.Expression, keyset, select).ReadAsync(opened, cancellationToken).ConfigureAwait(false);
        return opened.TotalLimit is long limit ? page.WithTotal(await CountAsync(query, limit, cancellationToken).ConfigureAwait(false)) : page;
    }

    internal static async Task<PageTotal> CountAsync<T>(IQueryable<T> query, long limit, CancellationToken cancellationToken)
    {
        if (limit == long.MaxValue)
        {
            return new PageTotal(await query.LongCountAsync(cancellationToken).ConfigureAwait(false), IsCapped: false);
        }

        long counted = await query.Take((int)Math.Min(limit + 1, int.MaxValue)).LongCountAsync(cancellationToken).ConfigureAwait(false);
        return counted > limit ? new PageTotal(limit, IsCapped: true) : new PageTotal(counted, IsCapped: false);
    }

    private static IAsyncQueryProvider Provider<T>(IQueryable<T> query, CursorPaginator paginator, Keyset<T> keyset)
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(paginator);
        ArgumentNullException.ThrowIfNull(keyset);
        return query.Provider as IAsyncQueryProvider
            ?? throw new ArgumentException($"The query is none of Entity Framework Core, but a {query.GetType().Name}. A list in memory has ToPage.", nameof(query));
    }
}
