using System.Linq.Expressions;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>What a projection gives back.</summary>
internal static class Projections
{
    /// <summary>Whether it can be applied to the rows of a union: those have lost what tells them apart, so no collection can be read for each.</summary>
    public static bool CanFollowUnion(Expression item, QueryModel model) => item switch
    {
        MemberInitExpression made => CanFollowUnion(made.NewExpression, model) && made.Bindings.All(binding => binding is MemberAssignment assigned && CanFollowUnion(assigned.Expression, model)),
        NewExpression made => made.Arguments.All(argument => CanFollowUnion(argument, model)),
        NewArrayExpression made => made.Expressions.All(element => CanFollowUnion(element, model)),
        ConditionalExpression either => CanFollowUnion(either.IfTrue, model) && CanFollowUnion(either.IfFalse, model),
        UnaryExpression { NodeType: ExpressionType.Convert } conversion => CanFollowUnion(conversion.Operand, model),
        ParameterExpression => true,
        _ => !QueryModel.IsCollection(item.Type) && !model.IsEntity(item.Type),
    };
}
