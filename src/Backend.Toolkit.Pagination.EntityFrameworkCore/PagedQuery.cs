using System.Linq.Expressions;
using System.Reflection;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Query;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>A query, the order of its rows, and what is made of them.</summary>
internal readonly struct PagedQuery<T, TItem>(IAsyncQueryProvider provider, Expression query, Keyset<T> keyset, LambdaExpression? select)
{
    private static readonly MethodInfo ReadSource = typeof(PagedQuery<T, TItem>).GetMethod(nameof(ReadAsyncOf), BindingFlags.Static | BindingFlags.NonPublic)!;
    private static readonly MethodInfo ExplainSource = typeof(PagedQuery<T, TItem>).GetMethod(nameof(ExplainAsyncOf), BindingFlags.Static | BindingFlags.NonPublic)!;

    public Task<Page<TItem>> ReadAsync(KeysetRequest<T> request, CancellationToken cancellationToken)
    {
        QueryModel model = QueryModel.Of<T>(query);
        if (model.EntityType is null && Peeled.Is<T>(query, out Expression source, out LambdaExpression projection))
        {
            return (Task<Page<TItem>>)ReadSource.MakeGenericMethod(projection.Parameters[0].Type)
                .Invoke(null, BindingFlags.DoNotWrapExceptions, null, [provider, source, keyset, projection, select is null ? projection : Peeled.Then(projection, select), request, cancellationToken], null)!;
        }

        SeekColumns<T> columns = KeysetColumns<T>.Of(keyset, model, query);
        return ReadAsync(provider, query, columns, model, select is null ? KeyColumn<T>.Row : Inlining.Inline(select, KeyColumn<T>.Row), request, cancellationToken);
    }

    public Task<PageExplanation> ExplainAsync(KeysetRequest<T> request, CancellationToken cancellationToken)
    {
        QueryModel model = QueryModel.Of<T>(query);
        if (model.EntityType is null && Peeled.Is<T>(query, out Expression source, out LambdaExpression projection))
        {
            return (Task<PageExplanation>)ExplainSource.MakeGenericMethod(projection.Parameters[0].Type)
                .Invoke(null, BindingFlags.DoNotWrapExceptions, null, [provider, source, keyset, projection, request, cancellationToken], null)!;
        }

        return PageExplainer<T>.ExplainAsync(provider, query, KeysetColumns<T>.Of(keyset, model, query), model, KeyColumn<T>.Row, keyset, request, cancellationToken);
    }

    private static Task<Page<TItem>> ReadAsyncOf<TSource>(
        IAsyncQueryProvider provider, Expression source, Keyset<T> keyset, Expression<Func<TSource, T>> projection, LambdaExpression select, KeysetRequest<T> request, CancellationToken cancellationToken)
    {
        QueryModel model = QueryModel.Of<TSource>(source);
        return ReadAsync(provider, source, KeysetColumns<T>.Of(keyset, model, source, projection), model, Inlining.Inline(select, KeyColumn<TSource>.Row), request, cancellationToken);
    }

    private static Task<PageExplanation> ExplainAsyncOf<TSource>(
        IAsyncQueryProvider provider, Expression source, Keyset<T> keyset, Expression<Func<TSource, T>> projection, KeysetRequest<T> request, CancellationToken cancellationToken)
    {
        QueryModel model = QueryModel.Of<TSource>(source);
        return PageExplainer<T>.ExplainAsync(provider, source, KeysetColumns<T>.Of(keyset, model, source, projection), model, Inlining.Inline(projection, KeyColumn<TSource>.Row), keyset, request, cancellationToken);
    }

    private static async Task<Page<TItem>> ReadAsync<TSource>(
        IAsyncQueryProvider provider, Expression source, SeekColumns<TSource> columns, QueryModel model, Expression item, KeysetRequest<T> request, CancellationToken cancellationToken)
    {
        Seek<TSource> seek = columns.Seek(source, request, model.Dialect);
        Expression rows = columns.Rows<TItem>(seek, model, item);
        try
        {
            return await columns.ReadAsync<T, TItem>(provider, rows, seek, request, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception) when (Translation.MayHaveFailed(exception) && Translation.Blame(provider, seek, item, rows, exception) is PagedQueryException blame)
        {
            throw blame;
        }
    }
}
