using System.Linq.Expressions;
using System.Reflection;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>The methods of <see cref="Queryable"/>, closed once for each type.</summary>
internal static class QueryableMethods<T>
{
    public static MethodInfo Where { get; } = new Func<IQueryable<T>, Expression<Func<T, bool>>, IQueryable<T>>(Queryable.Where).Method;

    public static MethodInfo Concat { get; } = new Func<IQueryable<T>, IEnumerable<T>, IQueryable<T>>(Queryable.Concat).Method;

    public static MethodInfo Take { get; } = new Func<IQueryable<T>, int, IQueryable<T>>(Queryable.Take).Method;

    public static MethodInfo Union { get; } = new Func<IQueryable<T>, IEnumerable<T>, IQueryable<T>>(Queryable.Union).Method;

    public static MethodInfo FirstOrDefault { get; } = new Func<IQueryable<T>, T?>(Queryable.FirstOrDefault).Method;
}

internal static class QueryableMethods<T, TOther>
{
    private static readonly MethodInfo Ascending = new Func<IQueryable<T>, Expression<Func<T, TOther>>, IOrderedQueryable<T>>(Queryable.OrderBy).Method;
    private static readonly MethodInfo Descending = new Func<IQueryable<T>, Expression<Func<T, TOther>>, IOrderedQueryable<T>>(Queryable.OrderByDescending).Method;
    private static readonly MethodInfo ThenAscending = new Func<IOrderedQueryable<T>, Expression<Func<T, TOther>>, IOrderedQueryable<T>>(Queryable.ThenBy).Method;
    private static readonly MethodInfo ThenDescending = new Func<IOrderedQueryable<T>, Expression<Func<T, TOther>>, IOrderedQueryable<T>>(Queryable.ThenByDescending).Method;

    public static MethodInfo Select { get; } = new Func<IQueryable<T>, Expression<Func<T, TOther>>, IQueryable<TOther>>(Queryable.Select).Method;

    public static MethodInfo Order(bool isFirst, SortDirection direction) => isFirst
        ? direction == SortDirection.Ascending ? Ascending : Descending
        : direction == SortDirection.Ascending ? ThenAscending : ThenDescending;
}

internal static class QueryableMethods<T, TCollection, TResult>
{
    public static MethodInfo SelectMany { get; } =
        new Func<IQueryable<T>, Expression<Func<T, IEnumerable<TCollection>>>, Expression<Func<T, TCollection, TResult>>, IQueryable<TResult>>(Queryable.SelectMany).Method;
}
