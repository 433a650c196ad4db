using System.Linq.Expressions;
using System.Reflection;
using Microsoft.EntityFrameworkCore.Query;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>A query whose last operator is a projection, without it: the seek runs on the rows before, and the projection is applied to those of the page.</summary>
internal static class Peeled
{
    private static readonly MethodInfo SelectDefinition = QueryableMethods<object, object>.Select.GetGenericMethodDefinition();

    /// <summary>Whether the rows of a query are no entities and come from a projection that can go last.</summary>
    public static bool Is<T>(Expression query, out Expression source, out LambdaExpression projection)
    {
        if (query is MethodCallExpression { Method: { IsGenericMethod: true } method, Arguments: [Expression before, UnaryExpression { Operand: LambdaExpression { Parameters.Count: 1, Body: MemberInitExpression or NewExpression } lambda }] }
            && method.GetGenericMethodDefinition() == SelectDefinition && query is not EntityQueryRootExpression && lambda.ReturnType == typeof(T))
        {
            source = before;
            projection = lambda;
            return true;
        }

        source = query;
        projection = null!;
        return false;
    }

    /// <summary>A projection of a projection, as one.</summary>
    public static LambdaExpression Then(LambdaExpression projection, LambdaExpression select) =>
        Expression.Lambda(new Inlining(select.Parameters[0], projection.Body).Visit(select.Body), projection.Parameters[0]);
}
