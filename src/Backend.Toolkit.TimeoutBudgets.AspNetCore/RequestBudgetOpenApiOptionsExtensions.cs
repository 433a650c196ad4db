using System.Globalization;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc.Abstractions;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Microsoft.OpenApi;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

/// <summary>Documents the budgets of requests.</summary>
public static class RequestBudgetOpenApiOptionsExtensions
{
    /// <summary>
    /// Documents on each operation the header by which a caller says how long it waits, with the maximum of the endpoint, the refusals 503 and 504 with problem details, and the header <c>No-Retry</c> of its 502, 503 and
    /// 504. Answers that the endpoint documents itself keep their words. For applications whose <c>UseTimeoutBudgets</c> stands before all endpoints.
    /// </summary>
    /// <param name="options">The options of the document.</param>
    /// <returns>The options.</returns>
    public static OpenApiOptions AddTimeoutBudgets(this OpenApiOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options.AddOperationTransformer(static (operation, context, _) =>
        {
            ActionDescriptor action = context.Description.ActionDescriptor;
            IServiceProvider services = context.ApplicationServices;

            // A controller's action does not know what conventions such as MapControllers().WithTimeoutBudget() added; its endpoint does.
            Endpoint? endpoint = services.GetRequiredService<EndpointDataSource>().Endpoints.FirstOrDefault(endpoint => endpoint.Metadata.GetMetadata<ActionDescriptor>() == action);
            IReadOnlyList<object> metadata = endpoint?.Metadata ?? new EndpointMetadataCollection(action.EndpointMetadata);
            RequestBudgetOptions budgets = services.GetService<IOptionsMonitor<RequestBudgetOptions>>()?.CurrentValue ?? new RequestBudgetOptions();
            Document(operation, budgets, metadata.OfType<EndpointBudget>().LastOrDefault()?.Maximum ?? budgets.Maximum);
            return Task.CompletedTask;
        });
    }

    private static void Document(OpenApiOperation operation, RequestBudgetOptions budgets, TimeSpan maximum)
    {
        operation.Parameters ??= [];
        string most = maximum == Timeout.InfiniteTimeSpan ? "" : string.Create(CultureInfo.InvariantCulture, $" At most {maximum.TotalMilliseconds} count.");
        Ask(operation.Parameters, TimeoutBudgetMiddleware.BudgetHeader, $"How many milliseconds the caller waits for the answer.{most}");
        if (budgets.ReadEnvoyTimeout)
        {
            Ask(operation.Parameters, TimeoutBudgetMiddleware.EnvoyHeader, $"As {TimeoutBudgetMiddleware.BudgetHeader}; the lesser of both counts.");
        }

        operation.Responses ??= [];
        Refuse(operation.Responses, "503", "The request arrived with too little time left.");
        Refuse(operation.Responses, "504", "The time of the request ran out before it was answered.");
        foreach (string status in (string[])["502", "503", "504"])
        {
            if (operation.Responses.GetValueOrDefault(status) is OpenApiResponse response)
            {
                response.Headers ??= new Dictionary<string, IOpenApiHeader>();
                response.Headers.TryAdd(TimeoutBudgetMiddleware.NoRetryHeader, new OpenApiHeader
                {
                    Description = "1 when another attempt would only multiply the load.",
                    Schema = new OpenApiSchema { Type = JsonSchemaType.Integer },
                });
            }
        }
    }

    private static void Ask(IList<IOpenApiParameter> parameters, string name, string description)
    {
        if (!parameters.Any(parameter => parameter.In == ParameterLocation.Header && string.Equals(parameter.Name, name, StringComparison.OrdinalIgnoreCase)))
        {
            parameters.Add(new OpenApiParameter
            {
                Name = name,
                In = ParameterLocation.Header,
                Description = description,
                Schema = new OpenApiSchema { Type = JsonSchemaType.Integer, Minimum = "0" },
            });
        }
    }

    private static void Refuse(OpenApiResponses responses, string status, string description) => responses.TryAdd(status, new OpenApiResponse
    {
        Description = description,
        Content = new Dictionary<string, OpenApiMediaType> { ["application/problem+json"] = new() { Schema = new OpenApiSchema { Type = JsonSchemaType.Object } } },
    });
}
