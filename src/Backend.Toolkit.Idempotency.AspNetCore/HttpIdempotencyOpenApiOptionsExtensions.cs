using System.Globalization;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc.Abstractions;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.OpenApi;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>Documents the keys of endpoints.</summary>
public static class HttpIdempotencyOpenApiOptionsExtensions
{
    /// <summary>
    /// Documents on each operation that runs once the header with the key, whether it is required and how long responses are kept; the refusals 400, 401 where nobody in
    /// particular has no keys, 409 with <c>Retry-After</c>, 412, 413, 422 and 503; and the header <c>Idempotent-Replayed</c> of all answers of the endpoint that are stored. Answers that the endpoint documents itself keep their words.
    /// </summary>
    /// <param name="options">The options of the document.</param>
    /// <returns>The options.</returns>
    public static OpenApiOptions AddHttpIdempotency(this OpenApiOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options.AddOperationTransformer(static (operation, context, _) =>
        {
            ActionDescriptor action = context.Description.ActionDescriptor;
            IServiceProvider services = context.ApplicationServices;

            // A controller's action does not know what conventions such as MapControllers().RequireIdempotency() added; its endpoint does.
            Endpoint? endpoint = services.GetRequiredService<EndpointDataSource>().Endpoints.FirstOrDefault(endpoint => endpoint.Metadata.GetMetadata<ActionDescriptor>() == action);
            IReadOnlyList<object> metadata = endpoint?.Metadata ?? new EndpointMetadataCollection(action.EndpointMetadata);
            if (metadata.OfType<IdempotentAttribute>().LastOrDefault() is { } attribute && !RequestIdempotency.PassesBy(context.Description.HttpMethod ?? ""))
            {
                IdempotentExecutor executor = EndpointOperations.Find(services, attribute.Executor);
                Document(operation, attribute, services.GetRequiredService<HttpIdempotencyInForce>().Current, executor.Retention);
            }

            return Task.CompletedTask;
        });
    }

    private static void Document(OpenApiOperation operation, IdempotentAttribute attribute, HttpIdempotencyInForce.Settings settings, TimeSpan retention)
    {
        bool isStripe = settings.Profile == IdempotencyProfile.Stripe;
        operation.Responses ??= [];
        foreach ((_, IOpenApiResponse answer) in operation.Responses.Where(answer => IsStored(answer.Key, settings)))
        {
            AddHeader(answer, IdempotencyMiddleware.ReplayedHeader, "The word true when the request ran before and this is what it was answered.", JsonSchemaType.String);
        }

        Refuse(operation.Responses, "400", isStripe ? "The idempotency key is missing, malformed or was used for another request." : "The idempotency key is missing or malformed.", isStripe);
        if (!settings.AllowAnonymous)
        {
            Refuse(operation.Responses, "401", "The request does not say whose the idempotency key is.", isStripe);
        }

        Refuse(operation.Responses, "409", "A request with the idempotency key is in progress.", isStripe);
        if (!isStripe)
        {
            Refuse(operation.Responses, "412", "The idempotency key is older than responses are kept.", isStripe);
            Refuse(operation.Responses, "422", "The idempotency key was used for another request.", isStripe);
        }

        Refuse(operation.Responses, "413", "The body of the request is too long.", isStripe);
        Refuse(operation.Responses, "503", "Whether the request ran cannot be told at the moment.", isStripe);
        AddHeader(operation.Responses["409"], "Retry-After", "Seconds until the request may be made again.", JsonSchemaType.Integer);

        operation.Parameters ??= [];
        if (!operation.Parameters.Any(parameter => parameter.In == ParameterLocation.Header && string.Equals(parameter.Name, settings.HeaderName, StringComparison.OrdinalIgnoreCase)))
        {
            operation.Parameters.Add(new OpenApiParameter
            {
                Name = settings.HeaderName,
                In = ParameterLocation.Header,
                Required = attribute.NeedsKey,
                Description = string.Create(
                    CultureInfo.InvariantCulture,
                    $"The request runs once for each key; repeats get the same response, which is kept for {retention:c}. {(settings.StrictKeys ? "A string in quotes (RFC 9651)" : "A string in quotes (RFC 9651) or bare")}, 1 to 255 characters, such as a UUID."),
                Schema = new OpenApiSchema { Type = JsonSchemaType.String, MinLength = 1 },
            });
        }
    }

    /// <summary>One that is no number, such as <c>default</c> or <c>4XX</c>, may be.</summary>
    private static bool IsStored(string status, HttpIdempotencyInForce.Settings settings) =>
        !int.TryParse(status, NumberStyles.None, CultureInfo.InvariantCulture, out int number) || settings.FateOf(number) == HttpIdempotencyInForce.Fate.Stored;

    private static void Refuse(OpenApiResponses responses, string status, string description, bool isStripe) => responses.TryAdd(status, new OpenApiResponse
    {
        Description = description,
        Content = new Dictionary<string, OpenApiMediaType>
        {
            [isStripe ? "application/json" : "application/problem+json"] = new() { Schema = new OpenApiSchema { Type = JsonSchemaType.Object } },
        },
    });

    private static void AddHeader(IOpenApiResponse answer, string name, string description, JsonSchemaType type)
    {
        if (answer is OpenApiResponse response)
        {
            response.Headers ??= new Dictionary<string, IOpenApiHeader>();
            response.Headers.TryAdd(name, new OpenApiHeader { Description = description, Schema = new OpenApiSchema { Type = type } });
        }
    }
}
