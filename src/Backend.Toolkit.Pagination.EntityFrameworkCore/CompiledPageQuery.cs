using System.Collections.Concurrent;
using System.Linq.Expressions;
using System.Reflection;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Query;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>Makes <see cref="CompiledPageQuery{TContext, TArgument, T, TItem}"/>s. Keep them in static fields.</summary>
public static class CompiledPageQuery
{
    /// <summary>Pages of a query that depends on nothing but the context.</summary>
    /// <typeparam name="TContext">The context.</typeparam>
    /// <typeparam name="T">A row.</typeparam>
    /// <param name="query">The query, such as <c>(ShopContext db) =&gt; db.Orders.AsNoTracking()</c>.</param>
    /// <param name="keyset">The order of the rows.</param>
    /// <returns>What reads pages.</returns>
    public static CompiledPageQuery<TContext, T, T> Create<TContext, T>(Expression<Func<TContext, IQueryable<T>>> query, Keyset<T> keyset)
        where TContext : DbContext => Create(query, keyset, static row => row);

    /// <summary>The same, with a projection that is applied after the seek.</summary>
    /// <typeparam name="TContext">The context.</typeparam>
    /// <typeparam name="T">A row.</typeparam>
    /// <typeparam name="TItem">An item of a page.</typeparam>
    /// <param name="query">The query.</param>
    /// <param name="keyset">The order of the rows.</param>
    /// <param name="select">Makes an item of a row, as in <c>Select</c>.</param>
    /// <returns>What reads pages.</returns>
    public static CompiledPageQuery<TContext, T, TItem> Create<TContext, T, TItem>(Expression<Func<TContext, IQueryable<T>>> query, Keyset<T> keyset, Expression<Func<T, TItem>> select)
        where TContext : DbContext
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(keyset);
        ArgumentNullException.ThrowIfNull(select);
        return new CompiledPageQuery<TContext, T, TItem>(new CompiledPages<TContext, int, T, TItem>(query, keyset, select));
    }

    /// <summary>Pages of a query that depends on one more value, such as the tenant.</summary>
    /// <typeparam name="TContext">The context.</typeparam>
    /// <typeparam name="TArgument">The value: a scalar, since Entity Framework takes no others as parameters.</typeparam>
    /// <typeparam name="T">A row.</typeparam>
    /// <param name="query">The query, such as <c>(ShopContext db, int tenant) =&gt; db.Orders.Where(o =&gt; o.Tenant == tenant)</c>.</param>
    /// <param name="keyset">The order of the rows.</param>
    /// <returns>What reads pages.</returns>
    public static CompiledPageQuery<TContext, TArgument, T, T> Create<TContext, TArgument, T>(Expression<Func<TContext, TArgument, IQueryable<T>>> query, Keyset<T> keyset)
        where TContext : DbContext => Create(query, keyset, static row => row);

    /// <summary>The same, with a projection that is applied after the seek.</summary>
    /// <typeparam name="TContext">The context.</typeparam>
    /// <typeparam name="TArgument">The value: a scalar, since Entity Framework takes no others as parameters.</typeparam>
    /// <typeparam name="T">A row.</typeparam>
    /// <typeparam name="TItem">An item of a page.</typeparam>
    /// <param name="query">The query.</param>
    /// <param name="keyset">The order of the rows.</param>
    /// <param name="select">Makes an item of a row, as in <c>Select</c>.</param>
    /// <returns>What reads pages.</returns>
    public static CompiledPageQuery<TContext, TArgument, T, TItem> Create<TContext, TArgument, T, TItem>(Expression<Func<TContext, TArgument, IQueryable<T>>> query, Keyset<T> keyset, Expression<Func<T, TItem>> select)
        where TContext : DbContext
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(keyset);
        ArgumentNullException.ThrowIfNull(select);
        return new CompiledPageQuery<TContext, TArgument, T, TItem>(new CompiledPages<TContext, TArgument, T, TItem>(query, keyset, select));
    }
}

/// <summary>
/// Pages of one query, compiled: Entity Framework looks at the expression once for each shape of page (first, next, previous, each with the columns that have no value), not once for each page. For all threads; for contexts of
/// one model, and so of one provider, as all compiled queries are.
/// </summary>
/// <typeparam name="TContext">The context.</typeparam>
/// <typeparam name="T">A row.</typeparam>
/// <typeparam name="TItem">An item of a page.</typeparam>
public sealed class CompiledPageQuery<TContext, T, TItem>
    where TContext : DbContext
{
    private readonly CompiledPages<TContext, int, T, TItem> _pages;

    internal CompiledPageQuery(CompiledPages<TContext, int, T, TItem> pages) => _pages = pages;

    /// <summary>Reads one page, as <c>ToPageAsync</c> on the query does.</summary>
    /// <param name="context">The context.</param>
    /// <param name="paginator">Opens and seals cursors.</param>
    /// <param name="request">What the caller asks for.</param>
    /// <param name="scope">What else cursors are bound to.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The page.</returns>
    /// <exception cref="InvalidCursorException">The cursor is not one of this keyset and scope.</exception>
    /// <exception cref="InvalidPageSizeException">The size is negative, or above the maximum where such are refused.</exception>
    /// <exception cref="PagedQueryException">The query cannot be paged by that keyset; names the operator or column.</exception>
    public Task<Page<TItem>> ToPageAsync(TContext context, CursorPaginator paginator, PageRequest request, string? scope = null, CancellationToken cancellationToken = default) =>
        _pages.ToPageAsync(context, 0, paginator, request, scope, cancellationToken);
}

/// <summary>The same for a query that depends on one more value.</summary>
/// <typeparam name="TContext">The context.</typeparam>
/// <typeparam name="TArgument">The value.</typeparam>
/// <typeparam name="T">A row.</typeparam>
/// <typeparam name="TItem">An item of a page.</typeparam>
public sealed class CompiledPageQuery<TContext, TArgument, T, TItem>
    where TContext : DbContext
{
    private readonly CompiledPages<TContext, TArgument, T, TItem> _pages;

    internal CompiledPageQuery(CompiledPages<TContext, TArgument, T, TItem> pages) => _pages = pages;

    /// <summary>Reads one page, as <c>ToPageAsync</c> on the query does.</summary>
    /// <param name="context">The context.</param>
    /// <param name="argument">The value that the query depends on.</param>
    /// <param name="paginator">Opens and seals cursors.</param>
    /// <param name="request">What the caller asks for.</param>
    /// <param name="scope">What else cursors are bound to; the value belongs into it.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The page.</returns>
    /// <exception cref="InvalidCursorException">The cursor is not one of this keyset and scope.</exception>
    /// <exception cref="InvalidPageSizeException">The size is negative, or above the maximum where such are refused.</exception>
    /// <exception cref="PagedQueryException">The query cannot be paged by that keyset; names the operator or column.</exception>
    public Task<Page<TItem>> ToPageAsync(TContext context, TArgument argument, CursorPaginator paginator, PageRequest request, string? scope = null, CancellationToken cancellationToken = default) =>
        _pages.ToPageAsync(context, argument, paginator, request, scope, cancellationToken);
}

/// <summary>A compiled query for each seek plan.</summary>
internal sealed class CompiledPages<TContext, TArgument, T, TItem>(LambdaExpression query, Keyset<T> keyset, Expression<Func<T, TItem>> select)
    where TContext : DbContext
{
    private static readonly MethodInfo MakeOfSource = typeof(CompiledPages<TContext, TArgument, T, TItem>).GetMethod(nameof(MakeOf), BindingFlags.Instance | BindingFlags.NonPublic)!;

    private readonly ConcurrentDictionary<SeekPlan, CompiledSeek<TContext, TArgument, T, TItem>> _seeks = new();
    private readonly ParameterExpression[] _parameters = [.. query.Parameters];
    private readonly Expression _query = query.Body is UnaryExpression { NodeType: ExpressionType.Convert } conversion ? conversion.Operand : query.Body;
    private QueryModel? _model;

    public async Task<Page<TItem>> ToPageAsync(TContext context, TArgument argument, CursorPaginator paginator, PageRequest request, string? scope, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(paginator);
        KeysetRequest<T> opened = paginator.Open(keyset, request, scope);
        QueryModel model = _model ??= QueryModel.Of<T>(context.Model);
        SeekPlan plan = opened.Plan(model.Dialect, rowValues: false);
        if (!_seeks.TryGetValue(plan, out CompiledSeek<TContext, TArgument, T, TItem>? seek))
        {
            seek = _seeks.GetOrAdd(plan, Make(context, opened));
        }

        Page<TItem>? page;
        try
        {
            page = await seek.ReadAsync(context, argument, opened, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception) when (Translation.MayHaveFailed(exception))
        {
            // The uncompiled form finds out what has no translation; where all has, the fault is another.
            _seeks.TryRemove(plan, out _);
            await Uncompiled(context, argument).ReadAsync(opened, cancellationToken).ConfigureAwait(false);
            throw;
        }

        // Nothing is left on this side: what is behind is seldom asked alone, and not compiled.
        page ??= await Uncompiled(context, argument).ReadAsync(opened, cancellationToken).ConfigureAwait(false);
        return opened.TotalLimit is long limit ? page.WithTotal(await KeysetQueryableExtensions.CountAsync(Query(context, argument), limit, cancellationToken).ConfigureAwait(false)) : page;
    }

    private CompiledSeek<TContext, TArgument, T, TItem> Make(TContext context, KeysetRequest<T> request)
    {
        QueryModel model = QueryModel.Of<T>(context.Model);
        if (model.EntityType is null && Peeled.Is<T>(_query, out Expression source, out LambdaExpression projection))
        {
            return (CompiledSeek<TContext, TArgument, T, TItem>)MakeOfSource.MakeGenericMethod(projection.Parameters[0].Type)
                .Invoke(this, BindingFlags.DoNotWrapExceptions, null, [context, source, projection, request], null)!;
        }

        return Make(_query, KeysetColumns<T>.Of(keyset, model, _query), model, Inlining.Inline(select, KeyColumn<T>.Row), request);
    }

    private CompiledSeek<TContext, TArgument, T, TItem> MakeOf<TSource>(TContext context, Expression source, Expression<Func<TSource, T>> projection, KeysetRequest<T> request)
    {
        QueryModel model = QueryModel.Of<TSource>(context.Model);
        return Make(source, KeysetColumns<T>.Of(keyset, model, source, projection), model, Inlining.Inline(Peeled.Then(projection, select), KeyColumn<TSource>.Row), request);
    }

    private CompiledSeek<TContext, TArgument, T, TItem> Make<TSource>(Expression source, SeekColumns<TSource> columns, QueryModel model, Expression item, KeysetRequest<T> request)
    {
        SeekPlan plan = request.Plan(model.Dialect, rowValues: false);
        return columns.Compile<TContext, TArgument, T, TItem>(
            (limit, keys) => columns.Rows<TItem>(new Seek<TSource>(source, columns.Columns, plan, model.Dialect, keys, limit), model, item), _parameters, request);
    }

    private PagedQuery<T, TItem> Uncompiled(TContext context, TArgument argument)
    {
        IQueryable<T> made = Query(context, argument);
        return new PagedQuery<T, TItem>((IAsyncQueryProvider)made.Provider, made.Expression, keyset, select);
    }

    /// <summary>The query as a tree that holds the context and the argument, as a closure would.</summary>
    private IQueryable<T> Query(TContext context, TArgument argument)
    {
        Expression body = new Inlining(_parameters[0], Expression.Constant(context)).Visit(_query);
        if (_parameters.Length > 1)
        {
            body = new Inlining(_parameters[1], Expression.Field(Expression.Constant(new Holder<TArgument>(argument)), nameof(Holder<>.Key))).Visit(body);
        }

        return Expression.Lambda<Func<IQueryable<T>>>(body).Compile(preferInterpretation: true)();
    }
}
