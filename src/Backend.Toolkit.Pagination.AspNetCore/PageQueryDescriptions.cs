using Microsoft.AspNetCore.Mvc.ApiExplorer;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>
/// Takes a <see cref="PageQuery"/> out of the descriptions of controllers, in which no caller could send it, and marks them: it may be part of a larger parameter. Those of minimal APIs never have it.
/// </summary>
internal sealed class PageQueryDescriptions : IApiDescriptionProvider
{
    /// <summary>After those of the framework, which are below zero.</summary>
    public int Order => 0;

    public void OnProvidersExecuting(ApiDescriptionProviderContext context)
    {
        foreach (ApiDescription description in context.Results)
        {
            foreach (ApiParameterDescription query in description.ParameterDescriptions.Where(IsQuery).ToArray())
            {
                description.ParameterDescriptions.Remove(query);
                description.SetProperty(PageQueryMetadata.Instance);
            }
        }
    }

    public void OnProvidersExecuted(ApiDescriptionProviderContext context)
    {
    }

    /// <summary>With <c>[FromQuery]</c> the framework describes its properties, one by one.</summary>
    private static bool IsQuery(ApiParameterDescription parameter) => parameter.Type == typeof(PageQuery) || parameter.ParameterDescriptor?.ParameterType == typeof(PageQuery);
}
