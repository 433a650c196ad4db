using System.Linq.Expressions;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>
/// A seek plan as LINQ. PostgreSQL gets branches with an order and a limit each, under UNION ALL, and then the few rows in order; SQLite plain branches under one order and limit, which it merges. There is no
/// NULLS FIRST in LINQ: where nulls of several branches do not stand where the database has them, the rows are ordered by IS NULL first, which no index has, so then SQLite, too, limits each branch.
/// </summary>
/// <param name="Source">The query that is paged.</param>
/// <param name="Columns">The keyset's columns.</param>
/// <param name="Plan">The branches.</param>
/// <param name="Dialect">The database.</param>
/// <param name="Values">The keys of the position; null where there is none.</param>
/// <param name="Limit">One more than the size of the page.</param>
internal sealed record Seek<TSource>(Expression Source, KeyColumn<TSource>[] Columns, SeekPlan Plan, SqlDialect Dialect, Expression?[] Values, Expression Limit)
{
    private static readonly Expression OneOfOther = Expression.Quote(Expression.Lambda<Func<TSource, int?>>(Expression.Constant(1, typeof(int?)), KeyColumn<TSource>.Other));

    public bool IsOneBranch => Plan.Page.Count == 1;

    /// <summary>The rows of the page, in reading order.</summary>
    public Expression Page()
    {
        if (IsOneBranch)
        {
            return Branch(Plan.Page[0]);
        }

        bool limited = AreBranchesLimited();
        Expression? all = null;
        foreach (SeekBranch branch in Plan.Page)
        {
            Expression rows = limited ? Branch(branch) : Where(branch, other: false);
            all = all is null ? rows : Expression.Call(QueryableMethods<TSource>.Concat, all, rows);
        }

        return Take(Ordered(all!, Order(), other: false));
    }

    /// <summary>Keys alone, for rows that cannot stand in a UNION ALL.</summary>
    /// <param name="pack">Makes a key row of a row.</param>
    /// <param name="row">The key row in lambdas.</param>
    /// <param name="key">The key in a key row.</param>
    /// <param name="distinct">True: key rows must be told from each other, as Entity Framework asks of rows that have collections. It knows that of a UNION, and not of a UNION ALL; they are so few then that it costs nothing.</param>
    public Expression KeysOfPage<TKeyRow>(Expression<Func<TSource, TKeyRow>> pack, ParameterExpression row, Func<int, Expression> key, bool distinct)
    {
        bool limited = distinct || AreBranchesLimited();
        Expression quoted = Expression.Quote(pack);
        Expression? all = null;
        foreach (SeekBranch branch in Plan.Page)
        {
            Expression rows = Expression.Call(QueryableMethods<TSource, TKeyRow>.Select, limited ? Branch(branch) : Where(branch, other: false), quoted);
            all = all is null ? rows : Expression.Call(distinct ? QueryableMethods<TKeyRow>.Union : QueryableMethods<TKeyRow>.Concat, all, rows);
        }

        bool isFirst = true;
        foreach (SeekOrder order in Order())
        {
            if (order.Nulls is NullOrder nulls)
            {
                Expression isMissing = Expression.Equal(key(order.Column), Expression.Constant(null, key(order.Column).Type));
                all = KeyOrder.By(all!, row, isMissing, isFirst, nulls == NullOrder.First ? SortDirection.Descending : SortDirection.Ascending);
                isFirst = false;
            }

            all = KeyOrder.By(all!, row, key(order.Column), isFirst, order.Direction);
            isFirst = false;
        }

        return Expression.Call(QueryableMethods<TKeyRow>.Take, all!, Limit);
    }

    /// <summary>One branch, ordered and limited.</summary>
    public Expression Branch(SeekBranch branch) => Take(Ordered(Where(branch, other: false), OrderOf(branch), other: false));

    /// <summary>
    /// Whether there is a row behind the position, as a number or null: nearest branches first, and those after it are not run. Ordered, although any row would do: PostgreSQL drops the order of an EXISTS, and then may
    /// take a scan of the table for the fastest way to the first row.
    /// </summary>
    public Expression Behind()
    {
        Expression? all = null;
        for (int i = Plan.Behind.Count - 1; i >= 0; i--)
        {
            Expression ones = Expression.Call(QueryableMethods<TSource, int?>.Select, OrderedBehind(Plan.Behind[i]), OneOfOther);
            Expression one = Expression.Call(QueryableMethods<int?>.FirstOrDefault, ones);
            all = all is null ? one : Expression.Coalesce(one, all);
        }

        return all ?? Expression.Constant(null, typeof(int?));
    }

    /// <summary>A number for each branch behind the position that has a row.</summary>
    public Expression BehindAlone()
    {
        Expression? all = null;
        foreach (SeekBranch branch in Plan.Behind)
        {
            Expression ones = Expression.Call(QueryableMethods<TSource, int?>.Select, Expression.Call(QueryableMethods<TSource>.Take, OrderedBehind(branch), Expression.Constant(1)), OneOfOther);
            all = all is null ? ones : Expression.Call(QueryableMethods<int?>.Concat, all, ones);
        }

        return all!;
    }

    public Expression OrderedBehind(SeekBranch branch) => Ordered(Where(branch, other: true), OrderOf(branch), other: true);

    private Expression Where(SeekBranch branch, bool other)
    {
        Expression? all = null;
        foreach (SeekTerm term in branch.Terms)
        {
            KeyColumn<TSource> column = Columns[term.Column];
            Expression condition = term.Operator switch
            {
                SeekOperator.IsNull => column.IsMissing(other),
                SeekOperator.IsNotNull => column.IsThere(other),
                _ => column.Compare(term.Operator, Values[term.Column]!, other),
            };
            all = all is null ? condition : Expression.AndAlso(all, condition);
        }

        return all is null
            ? Source
            : Expression.Call(QueryableMethods<TSource>.Where, Source, Expression.Quote(Expression.Lambda<Func<TSource, bool>>(all, other ? KeyColumn<TSource>.Other : KeyColumn<TSource>.Row)));
    }

    private Expression Ordered(Expression query, IEnumerable<SeekOrder> orders, bool other)
    {
        bool isFirst = true;
        foreach (SeekOrder order in orders)
        {
            if (order.Nulls is NullOrder nulls)
            {
                query = Columns[order.Column].OrderByMissing(query, isFirst, nulls, other);
                isFirst = false;
            }

            query = Columns[order.Column].OrderBy(query, isFirst, order.Direction, other);
            isFirst = false;
        }

        return query;
    }

    private MethodCallExpression Take(Expression query) => Expression.Call(QueryableMethods<TSource>.Take, query, Limit);

    private bool AreBranchesLimited() => Dialect == SqlDialect.PostgreSql || Order().Any(static order => order.Nulls is not null);

    /// <summary>A branch's own order: a column that its conditions name has a value in all rows, or in none.</summary>
    private static IEnumerable<SeekOrder> OrderOf(SeekBranch branch)
    {
        int named = branch.Terms.Count == 0 ? -1 : branch.Terms[^1].Column;
        return branch.Order.Select(order => order.Column > named ? order : order with { Nulls = null });
    }

    /// <summary>The order over all branches: nulls need a place only where some rows have a value and others do not.</summary>
    private IEnumerable<SeekOrder> Order() => Plan.Order.Select(order => order.Nulls is null || MayDiffer(order.Column) ? order : order with { Nulls = null });

    private bool MayDiffer(int column)
    {
        bool some = false;
        bool none = false;
        foreach (SeekBranch branch in Plan.Page)
        {
            int at = 0;
            while (at < branch.Terms.Count && branch.Terms[at].Column != column)
            {
                at++;
            }

            if (at == branch.Terms.Count)
            {
                return true;
            }

            some |= branch.Terms[at].Operator != SeekOperator.IsNull;
            none |= branch.Terms[at].Operator == SeekOperator.IsNull;
        }

        return some && none;
    }
}
