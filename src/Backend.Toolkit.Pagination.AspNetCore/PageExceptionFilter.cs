using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Mvc.Filters;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>Answers what is wrong with a request for a page in controllers, of which it is a filter by the options of MVC.</summary>
internal sealed class PageExceptionFilter : IExceptionFilter, IOrderedFilter, IConfigureOptions<MvcOptions>
{
    /// <summary>The innermost: those of the application that answer any exception would answer these 500.</summary>
    public int Order => int.MaxValue;

    public void Configure(MvcOptions options) => options.Filters.Add(this);

    public void OnException(ExceptionContext context)
    {
        if (PageProblem.Of(context.Exception) is { } problem && !context.HttpContext.Response.HasStarted)
        {
            context.Result = new ProblemAnswer(problem);
            context.ExceptionHandled = true;
        }
    }
}
