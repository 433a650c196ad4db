using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>An endpoint of a minimal API that takes a <see cref="PageQuery"/>; and the filter that each of them has.</summary>
internal sealed class PageQueryMetadata
{
    public static PageQueryMetadata Instance { get; } = new();

    public static EndpointFilterDelegate Filter(EndpointFilterFactoryContext context, EndpointFilterDelegate next) => async invocation =>
    {
        HttpContext request = invocation.HttpContext;
        if (request.Features.Get<PageQuery>()?.Problem is { } problem)
        {
            return new ProblemAnswer(problem);
        }

        try
        {
            return await next(invocation).ConfigureAwait(false);
        }
        catch (Exception exception) when (!request.Response.HasStarted && PageProblem.Of(exception) is not null)
        {
            return new ProblemAnswer(PageProblem.Of(exception)!);
        }
    };
}
