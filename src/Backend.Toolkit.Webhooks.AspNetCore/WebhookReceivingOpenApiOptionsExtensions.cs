using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc.Abstractions;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Microsoft.OpenApi;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>Documents endpoints that receive webhooks.</summary>
public static class WebhookReceivingOpenApiOptionsExtensions
{
    /// <summary>
    /// Documents on each operation that receives webhooks the headers of its verifier's scheme, the refusals 401, 408, 409 and 503 with <c>Retry-After</c>, and 413, and the 200 of a repeat. Answers that the endpoint documents itself keep their
    /// words.
    /// </summary>
    /// <param name="options">The options of the document.</param>
    /// <returns>The options.</returns>
    public static OpenApiOptions AddWebhookReceiving(this OpenApiOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options.AddOperationTransformer(static (operation, context, _) =>
        {
            ActionDescriptor action = context.Description.ActionDescriptor;
            IServiceProvider services = context.ApplicationServices;

            // A controller's action does not know what conventions such as MapControllers().VerifyWebhook() added; its endpoint does.
            Endpoint? endpoint = services.GetRequiredService<EndpointDataSource>().Endpoints.FirstOrDefault(endpoint => endpoint.Metadata.GetMetadata<ActionDescriptor>() == action);
            IReadOnlyList<object> metadata = endpoint?.Metadata ?? new EndpointMetadataCollection(action.EndpointMetadata);
            if (metadata.OfType<VerifyWebhookAttribute>().LastOrDefault() is { } attribute)
            {
                Receivers.Verifier(services, attribute.Verifier);
                Document(operation, attribute, services.GetRequiredService<IOptionsMonitor<WebhookVerifierOptions>>().Get(attribute.Verifier).Scheme);
            }

            return Task.CompletedTask;
        });
    }

    private static void Document(OpenApiOperation operation, VerifyWebhookAttribute attribute, WebhookScheme scheme)
    {
        operation.Parameters ??= [];
        Ask(operation.Parameters, scheme.SignatureHeader, true, $"The signature, in the form of {scheme.Name}.");
        Ask(operation.Parameters, scheme.TimestampHeader, true, "When it was signed, in seconds since 1970.");
        Ask(operation.Parameters, scheme.IdHeader, scheme.SignedContent.Contains("{id}", StringComparison.Ordinal), "The id of the message.");

        operation.Responses ??= [];
        Refuse(operation.Responses, "401", "The request is not a webhook that was signed for this endpoint.");
        Refuse(operation.Responses, "408", "The body took too long to arrive.");
        Refuse(operation.Responses, "413", "The body is too long.");
        Refuse(operation.Responses, "503", "Webhooks cannot be taken at the moment.");
        AddRetryAfter(operation.Responses["503"]);
        if (attribute.GuardReplays)
        {
            operation.Responses.TryAdd("200", new OpenApiResponse { Description = "The webhook was handled before." });
            Refuse(operation.Responses, "409", "The webhook is being handled.");
            AddRetryAfter(operation.Responses["409"]);
        }
    }

    private static void Ask(IList<IOpenApiParameter> parameters, string? name, bool required, string description)
    {
        if (name is not null && !parameters.Any(parameter => parameter.In == ParameterLocation.Header && string.Equals(parameter.Name, name, StringComparison.OrdinalIgnoreCase)))
        {
            parameters.Add(new OpenApiParameter
            {
                Name = name,
                In = ParameterLocation.Header,
                Required = required,
                Description = description,
                Schema = new OpenApiSchema { Type = JsonSchemaType.String },
            });
        }
    }

    private static void Refuse(OpenApiResponses responses, string status, string description) => responses.TryAdd(status, new OpenApiResponse
    {
        Description = description,
        Content = new Dictionary<string, OpenApiMediaType> { ["application/problem+json"] = new() { Schema = new OpenApiSchema { Type = JsonSchemaType.Object } } },
    });

    private static void AddRetryAfter(IOpenApiResponse answer)
    {
        if (answer is OpenApiResponse response)
        {
            response.Headers ??= new Dictionary<string, IOpenApiHeader>();
            response.Headers.TryAdd("Retry-After", new OpenApiHeader { Description = "Seconds until the webhook may be sent again.", Schema = new OpenApiSchema { Type = JsonSchemaType.Integer } });
        }
    }
}
