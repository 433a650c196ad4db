using Microsoft.AspNetCore.Mvc.ModelBinding;
using Microsoft.AspNetCore.Mvc.ModelBinding.Validation;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>Binds in controllers. A bad query is thrown: the filter answers it alike, whether or not the controller looks at its model state.</summary>
internal sealed class PageQueryModelBinder : IModelBinder
{
    public Task BindModelAsync(ModelBindingContext bindingContext)
    {
        if (!bindingContext.ActionContext.ActionDescriptor.FilterDescriptors.Any(static descriptor => descriptor.Filter is PageExceptionFilter))
        {
            throw new InvalidOperationException(
                $"Action {bindingContext.ActionContext.ActionDescriptor.DisplayName} takes a PageQuery, but nothing answers what may be wrong with it. Call services.AddHttpPagination().");
        }

        PageQuery query = PageQuery.Read(bindingContext.HttpContext);
        if (query.Problem is { } problem)
        {
            throw new InvalidPageQueryException(problem);
        }

        // Nothing in it has rules that a validator knows.
        bindingContext.ValidationState.Add(query, new ValidationStateEntry { SuppressValidation = true });
        bindingContext.Result = ModelBindingResult.Success(query);
        return Task.CompletedTask;
    }
}
