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
        ParameterExpression => false,
        _ => QueryModel.IsCollection(item.Type) || model.IsEntity(item.Type),
    };
}
