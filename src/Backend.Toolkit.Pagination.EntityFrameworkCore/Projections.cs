using System.Linq.Expressions;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>What a projection gives back.</summary>
internal static class Projections
{
    /// <summary>Whether it has collections, or entities that may bring some: for those each row must be told from all others.</summary>
    public static bool HasCollections(Expression item, QueryModel model) => item switch
    {
        MemberInitExpression made => HasCollections(made.NewExpression, model) || made.Bindings.Any(binding => binding is not MemberAssignment assigned || HasCollections(assigned.Expression, model)),
        NewExpression made => made.Arguments.Any(argument => HasCollections(argument, model)),
        NewArrayExpression made => made.Expressions.Any(element => HasCollections(element, model)),
        ConditionalExpression either => HasCollections(either.IfTrue, model) || HasCollections(either.IfFalse, model),
        UnaryExpression { NodeType: ExpressionType.Convert } conversion => HasCollections(conversion.Operand, model),
        BinaryExpression both => HasCollections(both.Left, model) || HasCollections(both.Right, model),
        ParameterExpression => false,

        // What no database knows runs on the client, with its arguments read.
        MethodCallExpression call when call.Method.DeclaringType != typeof(Queryable) && call.Method.DeclaringType != typeof(Enumerable) && !IsRead(call.Type, model) =>
            call.Arguments.Any(argument => HasCollections(argument, model)) || (call.Object is not null && HasCollections(call.Object, model)),
        _ => IsRead(item.Type, model),
    };

    private static bool IsRead(Type type, QueryModel model) => QueryModel.IsCollection(type) || model.IsEntity(type);
}
