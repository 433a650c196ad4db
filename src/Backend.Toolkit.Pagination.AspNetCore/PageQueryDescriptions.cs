using Microsoft.AspNetCore.Mvc.ApiExplorer;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>Takes a <see cref="PageQuery"/> out of the descriptions of controllers, in which no caller could send it; those of minimal APIs never have it.</summary>
internal sealed class PageQueryDescriptions : IApiDescriptionProvider
{
    /// <summary>After those of the framework, which are below zero.</summary>
    public int Order => 0;

    public void OnProvidersExecuting(ApiDescriptionProviderContext context)
    {
        foreach (ApiDescription description in context.Results)
        {
            foreach (ApiParameterDescription query in description.ParameterDescriptions.Where(static parameter => parameter.Type == typeof(PageQuery)).ToArray())
            {
                description.ParameterDescriptions.Remove(query);
            }
        }
    }

    public void OnProvidersExecuted(ApiDescriptionProviderContext context)
    {
    }
}
