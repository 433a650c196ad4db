using System.Linq.Expressions;
using System.Reflection;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata;
using Microsoft.EntityFrameworkCore.Query;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>The columns of a keyset, and what reads rows with their keys.</summary>
internal abstract class SeekColumns<TSource>(KeyColumn<TSource>[] columns, Expression keys)
{
    public KeyColumn<TSource>[] Columns { get; } = columns;

    /// <summary>The keys of <see cref="KeyColumn{TSource}.Row"/>, packed.</summary>
    protected Expression Keys { get; } = keys;

    public static SeekColumns<TSource> Of(KeyColumn<TSource>[] columns)
    {
        Expression keys = Pack([.. columns.Select(column => column.Key)]);
        return (SeekColumns<TSource>)Activator.CreateInstance(typeof(SeekColumns<,>).MakeGenericType(typeof(TSource), keys.Type), columns, keys)!;
    }

    public Seek<TSource> Seek<T>(Expression source, in KeysetRequest<T> request, SqlDialect dialect)
    {
        var values = new Expression?[Columns.Length];
        for (int i = 0; i < values.Length && request.HasPosition; i++)
        {
            values[i] = request.Keyset.Columns[i].IsNullable && request.PositionKey(i) is null ? null : Columns[i].Value(request, i);
        }

        // No constant: Entity Framework would call its parameter p0, which is what it calls those of FromSql.
        return new Seek<TSource>(source, Columns, request.Plan(dialect, rowValues: false), dialect, values, Expression.Field(Expression.Constant(new Holder<int>(request.Size + 1)), nameof(Holder<>.Key)));
    }

    /// <summary>The query of a page: <see cref="SeekRow{TItem, TKeys}"/>s.</summary>
    /// <param name="seek">The seek.</param>
    /// <param name="model">What is known of the rows.</param>
    /// <param name="item">The item of <see cref="KeyColumn{TSource}.Row"/>.</param>
    public abstract Expression Rows<TItem>(Seek<TSource> seek, QueryModel model, Expression item);

    public abstract Task<Page<TItem>> ReadAsync<T, TItem>(IAsyncQueryProvider provider, Expression rows, Seek<TSource> seek, KeysetRequest<T> request, CancellationToken cancellationToken);

    public abstract CompiledSeek<TContext, TArgument, T, TItem> Compile<TContext, TArgument, T, TItem>(Func<Expression, Expression?[], Expression> rows, ParameterExpression[] parameters, in KeysetRequest<T> request)
        where TContext : DbContext;

    protected static Expression Pack(ReadOnlySpan<Expression> values)
    {
        if (values.Length == 1)
        {
            return values[0];
        }

        Expression tail = Pack(values[1..]);
        Type type = typeof(Pair<,>).MakeGenericType(values[0].Type, tail.Type);
        return Expression.New(type.GetConstructors()[0], [values[0], tail], type.GetProperty(nameof(Pair<,>.Head))!, type.GetProperty(nameof(Pair<,>.Tail))!);
    }

    protected static Expression Unpack(Expression packed, int at, int count)
    {
        for (int i = 0; i < at; i++)
        {
            packed = Expression.Property(packed, nameof(Pair<,>.Tail));
        }

        return at == count - 1 ? packed : Expression.Property(packed, nameof(Pair<,>.Head));
    }
}

internal sealed class SeekColumns<TSource, TKeys>(KeyColumn<TSource>[] columns, Expression keys) : SeekColumns<TSource>(columns, keys)
{
    private static readonly MethodInfo RowsOfPage = typeof(SeekColumns<TSource, TKeys>).GetMethod(nameof(JoinedRows), BindingFlags.Instance | BindingFlags.NonPublic)!;

    public override Expression Rows<TItem>(Seek<TSource> seek, QueryModel model, Expression item)
    {
        if (!seek.IsOneBranch && model.EntityType?.FindPrimaryKey() is IKey key)
        {
            bool collections = model.ReadsCollections(seek.Source) || Projections.HasCollections(item, model);
            if (collections || model.HasJson)
            {
                Expression ids = Pack([.. key.Properties.Select(property => IdOf(KeyColumn<TSource>.Row, property))]);
                return (Expression)RowsOfPage.MakeGenericMethod(typeof(TItem), ids.Type).Invoke(this, [seek, item, key, ids, collections])!;
            }
        }

        Expression row = Expression.New(Row<TItem>.Constructor, item, Keys, seek.Behind());
        return Expression.Call(QueryableMethods<TSource, SeekRow<TItem, TKeys>>.Select, seek.Page(), Expression.Quote(Expression.Lambda<Func<TSource, SeekRow<TItem, TKeys>>>(row, KeyColumn<TSource>.Row)));
    }

    public override async Task<Page<TItem>> ReadAsync<T, TItem>(IAsyncQueryProvider provider, Expression rows, Seek<TSource> seek, KeysetRequest<T> request, CancellationToken cancellationToken)
    {
        var read = new List<SeekRow<TItem, TKeys>>(Math.Min(request.Size, 255) + 1);
        await foreach (SeekRow<TItem, TKeys> row in provider.ExecuteAsync<IAsyncEnumerable<SeekRow<TItem, TKeys>>>(rows, cancellationToken).WithCancellation(cancellationToken).ConfigureAwait(false))
        {
            read.Add(row);
        }

        bool behind = read.Count > 0 ? read[0].Behind is not null : request.HasPosition && await IsBehindAsync(provider, seek, cancellationToken).ConfigureAwait(false);
        return ToPage(read, behind, request);
    }

    public override CompiledSeek<TContext, TArgument, T, TItem> Compile<TContext, TArgument, T, TItem>(Func<Expression, Expression?[], Expression> rows, ParameterExpression[] parameters, in KeysetRequest<T> request) =>
        CompiledSeek<TContext, TArgument, T, TItem>.Make<TSource, TKeys>(Columns, rows, parameters, request, ToPage);

    private Page<TItem> ToPage<T, TItem>(List<SeekRow<TItem, TKeys>> rows, bool behind, KeysetRequest<T> request)
    {
        int count = Columns.Length;
        return request.ToPage(rows, behind, static row => row.Item, (row, column) => row.Key(column, count));
    }

    /// <summary>Where nothing is left on this side, no row could say what is behind.</summary>
    private static async Task<bool> IsBehindAsync(IAsyncQueryProvider provider, Seek<TSource> seek, CancellationToken cancellationToken)
    {
        await foreach (int? _ in provider.ExecuteAsync<IAsyncEnumerable<int?>>(seek.BehindAlone(), cancellationToken).WithCancellation(cancellationToken).ConfigureAwait(false))
        {
            return true;
        }

        return false;
    }

    /// <summary>The seek over keys, and then the rows by their primary key.</summary>
    private MethodCallExpression JoinedRows<TItem, TIds>(Seek<TSource> seek, Expression item, IKey key, Expression ids, bool distinct)
    {
        var pack = Expression.Lambda<Func<TSource, Pair<TKeys, TIds>>>(Pack([Keys, ids]), KeyColumn<TSource>.Row);
        ParameterExpression keyRow = Expression.Parameter(typeof(Pair<TKeys, TIds>), "keys");
        Expression keysOfRow = Expression.Property(keyRow, nameof(Pair<,>.Head));
        Expression keys = seek.KeysOfPage(pack, keyRow, column => Unpack(keysOfRow, column, Columns.Length), distinct);

        Expression isSame = key.Properties
            .Select((property, i) => (Expression)Expression.Equal(IdOf(KeyColumn<TSource>.Row, property), Unpack(Expression.Property(keyRow, nameof(Pair<,>.Tail)), i, key.Properties.Count)))
            .Aggregate(Expression.AndAlso);
        Expression rows = Expression.Call(QueryableMethods<TSource>.Where, seek.Source, Expression.Quote(Expression.Lambda<Func<TSource, bool>>(isSame, KeyColumn<TSource>.Row)));
        Expression result = Expression.New(Row<TItem>.Constructor, item, keysOfRow, seek.Behind());
        return Expression.Call(
            QueryableMethods<Pair<TKeys, TIds>, TSource, SeekRow<TItem, TKeys>>.SelectMany,
            keys,
            Expression.Quote(Expression.Lambda<Func<Pair<TKeys, TIds>, IEnumerable<TSource>>>(rows, keyRow)),
            Expression.Quote(Expression.Lambda<Func<Pair<TKeys, TIds>, TSource, SeekRow<TItem, TKeys>>>(result, keyRow, KeyColumn<TSource>.Row)));
    }

    private static MethodCallExpression IdOf(Expression row, IProperty property) => Expression.Call(typeof(EF), nameof(EF.Property), [property.ClrType], row, Expression.Constant(property.Name));

    private static class Row<TItem>
    {
        public static readonly ConstructorInfo Constructor = typeof(SeekRow<TItem, TKeys>).GetConstructors()[0];
    }
}
