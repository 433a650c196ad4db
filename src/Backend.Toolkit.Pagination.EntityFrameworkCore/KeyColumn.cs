using System.Linq.Expressions;
using System.Reflection;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>One column of a keyset as expressions over the rows of a query. What holds no key is made once and used by all pages.</summary>
internal abstract class KeyColumn<TSource>
{
    /// <summary>The row in all lambdas about the page.</summary>
    public static readonly ParameterExpression Row = Expression.Parameter(typeof(TSource), "row");

    /// <summary>The row in lambdas that stand inside of those, about what is behind the page.</summary>
    public static readonly ParameterExpression Other = Expression.Parameter(typeof(TSource), "other");

    private Expression? _missing;
    private Expression? _missingOther;

    protected KeyColumn(string name, Expression key)
    {
        Name = name;
        Key = key;
        KeyOfOther = new Inlining(Row, Other).Visit(key);
    }

    public string Name { get; }

    /// <summary>The key of <see cref="Row"/>.</summary>
    public Expression Key { get; }

    public Expression KeyOfOther { get; }

    /// <summary>The key of the position as an expression that becomes a parameter.</summary>
    public abstract Expression Value<T>(in KeysetRequest<T> request, int column);

    public abstract Expression Compare(SeekOperator comparison, Expression value, bool other);

    /// <summary>Orders the query by the key.</summary>
    public abstract Expression OrderBy(Expression query, bool isFirst, SortDirection direction, bool other);

    /// <summary>Orders the query by whether there is a key.</summary>
    public Expression OrderByMissing(Expression query, bool isFirst, NullOrder nulls, bool other)
    {
        Expression lambda = other
            ? _missingOther ??= Expression.Quote(Expression.Lambda<Func<TSource, bool>>(IsMissing(other: true), Other))
            : _missing ??= Expression.Quote(Expression.Lambda<Func<TSource, bool>>(IsMissing(other: false), Row));
        return Expression.Call(QueryableMethods<TSource, bool>.Order(isFirst, nulls == NullOrder.First ? SortDirection.Descending : SortDirection.Ascending), query, lambda);
    }

    public Expression IsMissing(bool other) => Expression.Equal(other ? KeyOfOther : Key, Expression.Constant(null, Key.Type));

    public Expression IsThere(bool other) => Expression.NotEqual(other ? KeyOfOther : Key, Expression.Constant(null, Key.Type));
}

internal sealed class KeyColumn<TSource, TKey>(string name, Expression key, Func<TKey, TKey>? asStored) : KeyColumn<TSource>(name, key)
{
    private static readonly FieldInfo HolderKey = typeof(Holder<TKey>).GetField(nameof(Holder<>.Key))!;
    private static readonly MethodInfo LessMethod = Method(nameof(Less));
    private static readonly MethodInfo LessOrEqualMethod = Method(nameof(LessOrEqual));
    private static readonly MethodInfo GreaterMethod = Method(nameof(Greater));
    private static readonly MethodInfo GreaterOrEqualMethod = Method(nameof(GreaterOrEqual));

    private Expression? _lambda;
    private Expression? _lambdaOfOther;

    /// <summary>The key of the position as its column would have stored it.</summary>
    public TKey Read<T>(KeysetRequest<T> request, int column)
    {
        TKey value = request.PositionKey<TKey>(column);
        return asStored is null ? value : asStored(value);
    }

    public override Expression Value<T>(in KeysetRequest<T> request, int column) =>
        Expression.Field(Expression.Constant(new Holder<TKey>(Read(request, column))), HolderKey);

    // Text, Guid, bool and enums have no such operators in C#, but all columns have them in SQL: a method of ours makes the node, and only the node is translated.
    public override Expression Compare(SeekOperator comparison, Expression value, bool other)
    {
        Expression key = other ? KeyOfOther : Key;
        return comparison switch
        {
            SeekOperator.Equal => Expression.Equal(key, value),
            SeekOperator.Less => Expression.LessThan(key, value, liftToNull: false, LessMethod),
            SeekOperator.LessOrEqual => Expression.LessThanOrEqual(key, value, liftToNull: false, LessOrEqualMethod),
            SeekOperator.Greater => Expression.GreaterThan(key, value, liftToNull: false, GreaterMethod),
            _ => Expression.GreaterThanOrEqual(key, value, liftToNull: false, GreaterOrEqualMethod),
        };
    }

    public override Expression OrderBy(Expression query, bool isFirst, SortDirection direction, bool other)
    {
        Expression lambda = other
            ? _lambdaOfOther ??= Expression.Quote(Expression.Lambda<Func<TSource, TKey>>(KeyOfOther, Other))
            : _lambda ??= Expression.Quote(Expression.Lambda<Func<TSource, TKey>>(Key, Row));
        return Expression.Call(QueryableMethods<TSource, TKey>.Order(isFirst, direction), query, lambda);
    }

    private static bool Less(TKey left, TKey right) => Comparer<TKey>.Default.Compare(left, right) < 0;

    private static bool LessOrEqual(TKey left, TKey right) => Comparer<TKey>.Default.Compare(left, right) <= 0;

    private static bool Greater(TKey left, TKey right) => Comparer<TKey>.Default.Compare(left, right) > 0;

    private static bool GreaterOrEqual(TKey left, TKey right) => Comparer<TKey>.Default.Compare(left, right) >= 0;

    private static MethodInfo Method(string name) => typeof(KeyColumn<TSource, TKey>).GetMethod(name, BindingFlags.Static | BindingFlags.NonPublic)!;
}
