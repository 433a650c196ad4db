using System.Reflection;
using Backend.Toolkit.Idempotency.AspNetCore;
using Backend.Toolkit.Pagination.AspNetCore;
using Backend.Toolkit.RateLimiting.AspNetCore;
using Backend.Toolkit.TimeoutBudgets.AspNetCore;
using Backend.Toolkit.Webhooks.AspNetCore;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;

namespace Shop;

/// <summary>
/// The document at <c>/openapi/v1.json</c>. What a handler answers stands where it is mapped; what a package answers in its place, the package documents; what is so for all endpoints stands here. Pages and what they
/// consist of are not in it.
/// </summary>
internal static class ApiDocument
{
    public static void Add(IServiceCollection services) => services.AddOpenApi(options => options
        .AddDocumentTransformer((document, _, _) =>
        {
            document.Info = new OpenApiInfo
            {
                Title = "Shop",
                Version = typeof(ApiDocument).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion.Split('+')[0],
                Description = "Orders that are placed and charged once, and webhooks that tell of them.",
            };
            return Task.CompletedTask;
        })
        .AddSchemaTransformer((schema, context, _) =>
        {
            if (context.JsonTypeInfo.Type == typeof(CustomerTold))
            {
                // Nullable only to tell that it is missing.
                ((OpenApiSchema)schema.Properties!["broken"]).Type = JsonSchemaType.Boolean;
                schema.Required = new HashSet<string> { "broken" };
            }

            return Task.CompletedTask;
        })
        .AddOperationTransformer(DocumentHandlersAsync)
        .AddWebhookReceiving()
        .AddHttpPagination()
        .AddTimeoutBudgets()
        .AddHttpIdempotency()
        .AddOperationTransformer(DocumentServerAsync) // behind the keys: no key brings such an answer again
        .AddRateLimits() // its headers are on each answer of those before
        .AddOperationTransformer(DocumentFailureAsync)); // behind the limits: a failure takes all headers with it

    /// <summary>Documents problems by which the handler answers.</summary>
    public static RouteHandlerBuilder Refuses(this RouteHandlerBuilder endpoint, params int[] statuses)
    {
        foreach (int status in statuses)
        {
            endpoint.ProducesProblem(status);
        }

        return endpoint;
    }

    private static async Task DocumentHandlersAsync(OpenApiOperation operation, OpenApiOperationTransformerContext context, CancellationToken cancellationToken)
    {
        operation.Responses ??= [];
        if (operation.RequestBody is not null)
        {
            await RefuseAsync(operation.Responses, "400", "The body makes no sense.", context, cancellationToken);
        }

        foreach ((string status, IOpenApiResponse response) in operation.Responses)
        {
            if (status is "201" or "302")
            {
                AddHeader(response, "Location", "Where to go on.", JsonSchemaType.String);
            }
            else if (status is "503")
            {
                AddHeader(response, "Retry-After", "Seconds until the request may be made again.", JsonSchemaType.Integer);
            }
        }

        // It is text to whoever binds it.
        foreach (string name in context.Description.ParameterDescriptions.Where(parameter => parameter.ParameterDescriptor?.ParameterType == typeof(StatusFilter?)).Select(parameter => parameter.Name))
        {
            ((OpenApiParameter)operation.Parameters!.Single(parameter => parameter.Name == name)).Schema = await context.GetOrCreateSchemaAsync(typeof(OrderStatus), cancellationToken: cancellationToken);
        }
    }

    private static async Task DocumentServerAsync(OpenApiOperation operation, OpenApiOperationTransformerContext context, CancellationToken cancellationToken)
    {
        if (operation.RequestBody is not null)
        {
            await RefuseAsync(operation.Responses!, "408", "The body takes too long to arrive.", context, cancellationToken);
            await RefuseAsync(operation.Responses!, "413", "The body is too long.", context, cancellationToken);
            await RefuseAsync(operation.Responses!, "415", "The body is not JSON.", context, cancellationToken);
        }
    }

    private static Task DocumentFailureAsync(OpenApiOperation operation, OpenApiOperationTransformerContext context, CancellationToken cancellationToken) =>
        RefuseAsync(operation.Responses!, "500", "The shop itself failed.", context, cancellationToken);

    private static async Task RefuseAsync(OpenApiResponses responses, string status, string description, OpenApiOperationTransformerContext context, CancellationToken cancellationToken) =>
        responses.TryAdd(status, new OpenApiResponse
        {
            Description = description,
            Content = new Dictionary<string, OpenApiMediaType>
            {
                ["application/problem+json"] = new() { Schema = await context.GetOrCreateSchemaAsync(typeof(ProblemDetails), cancellationToken: cancellationToken) },
            },
        });

    private static void AddHeader(IOpenApiResponse answer, string name, string description, JsonSchemaType type)
    {
        var response = (OpenApiResponse)answer;
        response.Headers ??= new Dictionary<string, IOpenApiHeader>();
        response.Headers.TryAdd(name, new OpenApiHeader { Description = description, Schema = new OpenApiSchema { Type = type } });
    }
}
