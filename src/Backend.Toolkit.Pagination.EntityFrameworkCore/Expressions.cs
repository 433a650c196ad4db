using System.Linq.Expressions;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>Puts an expression in the place of a parameter, and takes apart at once what was only put together for a projection.</summary>
internal sealed class Inlining(ParameterExpression parameter, Expression replacement) : ExpressionVisitor
{
    public static Expression Inline(LambdaExpression lambda, Expression argument) => new Inlining(lambda.Parameters[0], argument).Visit(lambda.Body);

    protected override Expression VisitParameter(ParameterExpression node) => node == parameter ? replacement : node;

    protected override Expression VisitMember(MemberExpression node)
    {
        Expression? owner = Visit(node.Expression);
        switch (owner)
        {
            case MemberInitExpression made when made.Bindings.OfType<MemberAssignment>().FirstOrDefault(binding => binding.Member.Name == node.Member.Name) is MemberAssignment assigned:
                return assigned.Expression;
            case NewExpression { Members: not null } made when made.Members.Select(member => member.Name).ToList().IndexOf(node.Member.Name) is >= 0 and int at:
                return made.Arguments[at];
            case NewExpression { Members: null } or MemberInitExpression:
                throw new UnreachableKeyException(node.Member.Name);
            default:
                return node.Update(owner);
        }
    }
}

/// <summary>A key is made by a constructor that tells nobody what it makes of its arguments.</summary>
internal sealed class UnreachableKeyException(string member) : Exception
{
    public string Member { get; } = member;
}
