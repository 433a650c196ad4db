using System.Linq.Expressions;
using System.Reflection;
using Microsoft.EntityFrameworkCore.Query;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>A query whose last operator is a projection, without it: the seek runs on the rows before, and the projection is applied to those of the page.</summary>
internal static class Peeled
{
    private static readonly MethodInfo SelectDefinition = QueryableMethods<object, object>.Select.GetGenericMethodDefinition();

    /// <summary>Whether the rows of a query are no entities and come from a projection that can go last. One of groups cannot: without it they are no rows.</summary>
    public static bool Is<T>(Expression query, out Expression source, out LambdaExpression projection)
    {
        if (query is MethodCallExpression { Method: { IsGenericMethod: true } method, Arguments: [Expression before, UnaryExpression { Operand: LambdaExpression { Parameters.Count: 1, Body: MemberInitExpression or NewExpression } lambda }] }
            && method.GetGenericMethodDefinition() == SelectDefinition && lambda.ReturnType == typeof(T) && !IsGroup(lambda.Parameters[0].Type))
        {
            source = before;
            projection = lambda;
            return true;
        }

        source = query;
        projection = null!;
        return false;
    }

    /// <summary>What makes the rows of a query of others, and then the query of those: through filters, orders and whatever else leaves rows as they are. Of groups: what makes their key.</summary>
    public static LambdaExpression? Maker(ref Expression query)
    {
        for (; query is MethodCallExpression { Arguments: [Expression first, ..] } call && typeof(IQueryable).IsAssignableFrom(call.Type); query = first)
        {
            if (call.Method.Name is nameof(Queryable.Select) or nameof(Queryable.GroupBy))
            {
                query = first;
                return call.Arguments is [_, UnaryExpression { Operand: LambdaExpression { Parameters.Count: 1 } lambda }] ? lambda : null;
            }

            if (first.Type.GetGenericArguments() is not [Type before] || call.Type.GetGenericArguments() is not [Type after] || before != after)
            {
                return null;
            }
        }

        return null;
    }

    public static bool IsGroup(Type row) => row.IsGenericType && row.GetGenericTypeDefinition() == typeof(IGrouping<,>);

    /// <summary>A projection of a projection, as one.</summary>
    public static LambdaExpression Then(LambdaExpression projection, LambdaExpression select) =>
        Expression.Lambda(new Inlining(select.Parameters[0], projection.Body).Visit(select.Body), projection.Parameters[0]);
}
