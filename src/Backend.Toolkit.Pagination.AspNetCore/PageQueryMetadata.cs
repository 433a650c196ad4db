using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>An endpoint of a minimal API that takes a <see cref="PageQuery"/>; and the filters that each of them has.</summary>
internal sealed class PageQueryMetadata
{
    public static PageQueryMetadata Instance { get; } = new();

    /// <summary>Outside those of the endpoint's groups, which may use the query too.</summary>
    public static EndpointFilterDelegate Answer(EndpointFilterFactoryContext context, EndpointFilterDelegate next) => invocation => AnswerAsync(invocation, next);

    /// <summary>Inside those of the groups, which see an answer and no exception; they may refuse the caller first.</summary>
    public static EndpointFilterDelegate Refuse(EndpointFilterFactoryContext context, EndpointFilterDelegate next) => invocation =>
        invocation.HttpContext.Features.Get<PageQuery>()?.Problem is { } problem ? ValueTask.FromResult<object?>(new ProblemAnswer(problem)) : AnswerAsync(invocation, next);

    private static async ValueTask<object?> AnswerAsync(EndpointFilterInvocationContext invocation, EndpointFilterDelegate next)
    {
        try
        {
            return await next(invocation).ConfigureAwait(false);
        }
        catch (Exception exception) when (!invocation.HttpContext.Response.HasStarted && PageProblem.Of(exception) is not null)
        {
            return new ProblemAnswer(PageProblem.Of(exception)!);
        }
    }
}
