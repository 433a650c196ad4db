using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc.Abstractions;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.OpenApi;

namespace Backend.Toolkit.RateLimiting.AspNetCore;

/// <summary>Documents the limits of endpoints.</summary>
public static class RateLimitOpenApiOptionsExtensions
{
    /// <summary>
    /// Documents on each operation that has a rate limit, its own or that of the whole application, the 429 with problem details and <c>Retry-After</c>, and the headers <c>RateLimit</c> and
    /// <c>RateLimit-Policy</c> of all its answers that are documented by then: add it last. A 429 that the endpoint documents itself keeps its words.
    /// Where the application has a limit, an endpoint without one keeps it for a wrong content type: routing answers that 415 in its place.
    /// </summary>
    /// <param name="options">The options of the document.</param>
    /// <returns>The options.</returns>
    public static OpenApiOptions AddRateLimits(this OpenApiOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options.AddOperationTransformer(static (operation, context, _) =>
        {
            ActionDescriptor action = context.Description.ActionDescriptor;
            IServiceProvider services = context.ApplicationServices;

            // A controller's action does not know what conventions such as MapControllers().RequireRateLimit("api") added; its endpoint does.
            Endpoint? endpoint = services.GetRequiredService<EndpointDataSource>().Endpoints.FirstOrDefault(endpoint => endpoint.Metadata.GetMetadata<ActionDescriptor>() == action);
            IReadOnlyList<object> metadata = endpoint?.Metadata ?? new EndpointMetadataCollection(action.EndpointMetadata);
            bool isEverywhere = services.GetServices<MatcherPolicy>().OfType<RateLimitGuard>().Any(guard => guard.IsEverywhere);
            if (!metadata.OfType<DisableRateLimitAttribute>().Any())
            {
                if (isEverywhere || metadata.OfType<RateLimitAttribute>().Any())
                {
                    Document(operation, static _ => true);
                }
            }
            else if (isEverywhere && operation.Responses?.ContainsKey("415") == true)
            {
                Document(operation, static status => status is "415" or "429");
            }

            return Task.CompletedTask;
        });
    }

    private static void Document(OpenApiOperation operation, Func<string, bool> isLimited)
    {
        operation.Responses ??= [];
        if (!operation.Responses.ContainsKey("429"))
        {
            operation.Responses["429"] = new OpenApiResponse
            {
                Description = "Too Many Requests",
                Content = new Dictionary<string, OpenApiMediaType>
                {
                    ["application/problem+json"] = new() { Schema = new OpenApiSchema { Type = JsonSchemaType.Object } },
                },
            };
        }

        foreach ((string status, IOpenApiResponse answer) in operation.Responses)
        {
            if (isLimited(status) && answer is OpenApiResponse response)
            {
                response.Headers ??= new Dictionary<string, IOpenApiHeader>();
                response.Headers.TryAdd(RateLimitMiddleware.PolicyHeader, Header("The quotas that hold: name;q=permits;w=seconds.", JsonSchemaType.String));
                response.Headers.TryAdd(RateLimitMiddleware.StateHeader, Header("What is left: name;r=permits;t=seconds.", JsonSchemaType.String));
                if (status == "429")
                {
                    response.Headers.TryAdd("Retry-After", Header("Seconds until the request may be made again.", JsonSchemaType.Integer));
                }
            }
        }
    }

    private static OpenApiHeader Header(string description, JsonSchemaType type) => new() { Description = description, Schema = new OpenApiSchema { Type = type } };
}
