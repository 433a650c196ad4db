using System.Globalization;
using System.Linq.Expressions;
using System.Reflection;
using Microsoft.EntityFrameworkCore;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>The compiled query of one seek plan, and what makes a page of its rows.</summary>
internal abstract class CompiledSeek<TContext, TArgument, T, TItem>
    where TContext : DbContext
{
    /// <returns>The page; null: no row could say what is behind the position.</returns>
    public abstract Task<Page<TItem>?> ReadAsync(TContext context, TArgument argument, KeysetRequest<T> request, CancellationToken cancellationToken);

    public abstract Page<TItem> Empty(KeysetRequest<T> request, bool behind);

    /// <param name="columns">The keyset's columns.</param>
    /// <param name="rows">Makes the query of its limit and keys.</param>
    /// <param name="parameters">The context, and the argument where there is one.</param>
    /// <param name="request">A request of that plan.</param>
    /// <param name="toPage">Makes the page.</param>
    public static CompiledSeek<TContext, TArgument, T, TItem> Make<TSource, TKeys>(
        KeyColumn<TSource>[] columns, Func<Expression, Expression?[], Expression> rows, ParameterExpression[] parameters, in KeysetRequest<T> request, Func<List<SeekRow<TItem, TKeys>>, bool, KeysetRequest<T>, Page<TItem>> toPage)
    {
        ParameterExpression limit = Expression.Parameter(typeof(int), "limit");
        var keys = new ParameterExpression?[columns.Length];
        for (int i = 0; i < columns.Length && request.HasPosition; i++)
        {
            keys[i] = request.Keyset.Columns[i].IsNullable && request.PositionKey(i) is null ? null : Expression.Parameter(columns[i].Key.Type, string.Create(CultureInfo.InvariantCulture, $"key{i}"));
        }

        // Entity Framework has no use for parameters that a query does not use, nor for more than fifteen.
        Expression body = rows(limit, keys);
        var used = new UsedParameters();
        used.Visit(body);
        ParameterExpression[] all = [parameters[0], .. parameters.Skip(1).Append(limit).Concat(keys.OfType<ParameterExpression>()).Where(used.Found.Contains)];
        Type[] types = [.. all.Select(parameter => parameter.Type), typeof(SeekRow<TItem, TKeys>)];
        MethodInfo compile = typeof(EF).GetMethods().FirstOrDefault(method => method.Name == nameof(EF.CompileAsyncQuery) && method.GetGenericArguments().Length == types.Length
                && method.GetParameters()[0].ParameterType.GetGenericArguments()[0].GetGenericArguments()[^1] is { IsGenericType: true } result && result.GetGenericTypeDefinition() == typeof(IQueryable<>))
            ?? throw new PagedQueryException("CompileAsyncQuery", $"A compiled query of Entity Framework takes at most 15 parameters, and this page has {all.Length - 1}. Page it with ToPageAsync on the query.");
        Expression lambda = Expression.Lambda(body, all);
        object compiled = compile.MakeGenericMethod(types).Invoke(null, [lambda])!;

        // What reads the keys out of a request and hands them over, typed.
        ParameterExpression context = Expression.Parameter(typeof(TContext));
        ParameterExpression argument = Expression.Parameter(typeof(TArgument));
        ParameterExpression requested = Expression.Parameter(typeof(KeysetRequest<T>));
        IEnumerable<Expression> arguments = all.Select(parameter =>
            parameter == parameters[0] ? context
            : parameter == limit ? Expression.Add(Expression.Property(requested, nameof(KeysetRequest<>.Size)), Expression.Constant(1))
            : Array.IndexOf(keys, parameter) is >= 0 and int at
                ? Expression.Call(Expression.Constant(columns[at]), nameof(KeyColumn<,>.Read), [typeof(T)], requested, Expression.Constant(at))
                : (Expression)argument);
        var run = Expression.Lambda<Func<TContext, TArgument, KeysetRequest<T>, IAsyncEnumerable<SeekRow<TItem, TKeys>>>>(Expression.Invoke(Expression.Constant(compiled), arguments), context, argument, requested).Compile();
        return new Typed<TKeys>(run, toPage);
    }

    private sealed class Typed<TKeys>(
        Func<TContext, TArgument, KeysetRequest<T>, IAsyncEnumerable<SeekRow<TItem, TKeys>>> run, Func<List<SeekRow<TItem, TKeys>>, bool, KeysetRequest<T>, Page<TItem>> toPage) : CompiledSeek<TContext, TArgument, T, TItem>
    {
        public override async Task<Page<TItem>?> ReadAsync(TContext context, TArgument argument, KeysetRequest<T> request, CancellationToken cancellationToken)
        {
            var read = new List<SeekRow<TItem, TKeys>>(Math.Min(request.Size, 255) + 1);
            await foreach (SeekRow<TItem, TKeys> row in run(context, argument, request).WithCancellation(cancellationToken).ConfigureAwait(false))
            {
                read.Add(row);
            }

            return read.Count > 0 ? toPage(read, read[0].Behind is not null, request) : request.HasPosition ? null : Empty(request, behind: false);
        }

        public override Page<TItem> Empty(KeysetRequest<T> request, bool behind) => toPage([], behind, request);
    }

    private sealed class UsedParameters : ExpressionVisitor
    {
        public HashSet<ParameterExpression> Found { get; } = [];

        protected override Expression VisitParameter(ParameterExpression node)
        {
            Found.Add(node);
            return node;
        }
    }
}
