using System.Collections.Concurrent;
using System.Linq.Expressions;
using System.Reflection;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>Orders rows by keys whose types are known only at run time: those of the key rows that are joined with their entities.</summary>
internal static class KeyOrder
{
    private static readonly ConcurrentDictionary<(Type Row, Type Key), Func<bool, SortDirection, MethodInfo>> Methods = new();

    public static Expression By(Expression query, ParameterExpression row, Expression key, bool isFirst, SortDirection direction)
    {
        Func<bool, SortDirection, MethodInfo> methods = Methods.GetOrAdd((row.Type, key.Type), static types => typeof(QueryableMethods<,>).MakeGenericType(types.Row, types.Key)
            .GetMethod(nameof(QueryableMethods<,>.Order))!.CreateDelegate<Func<bool, SortDirection, MethodInfo>>());
        return Expression.Call(methods(isFirst, direction), query, Expression.Quote(Expression.Lambda(key, row)));
    }
}
