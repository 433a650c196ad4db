using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Mvc.ApiExplorer;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>Documents pages.</summary>
public static class HttpPaginationOpenApiOptionsExtensions
{
    /// <summary>
    /// Documents on each operation that takes a <see cref="PageQuery"/> its two parameters and the 400 with problem details, and on each that answers by a <see cref="PageResult{T}"/> the <c>Link</c> header; that one's
    /// schema is documented without this. A parameter or a 400 that the endpoint documents itself keeps its words.
    /// </summary>
    /// <param name="options">The options of the document.</param>
    /// <returns>The options.</returns>
    public static OpenApiOptions AddHttpPagination(this OpenApiOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return options.AddOperationTransformer(static (operation, context, _) =>
        {
            IList<object> metadata = context.Description.ActionDescriptor.EndpointMetadata;
            if (metadata.OfType<PageQueryMetadata>().Any() || context.Description.GetProperty<PageQueryMetadata>() is not null)
            {
                DocumentQuery(operation, HttpPaginationOptions.Of(context.ApplicationServices));
            }

            if (metadata.OfType<PageResultMetadata>().Any() && operation.Responses?.GetValueOrDefault("200") is OpenApiResponse answer)
            {
                answer.Headers ??= new Dictionary<string, IOpenApiHeader>();
                answer.Headers.TryAdd("Link", new OpenApiHeader { Description = "The next and the previous page, by rel=\"next\" and rel=\"prev\" (RFC 8288).", Schema = new OpenApiSchema { Type = JsonSchemaType.String } });
            }

            return Task.CompletedTask;
        });
    }

    private static void DocumentQuery(OpenApiOperation operation, HttpPaginationOptions options)
    {
        operation.Parameters ??= [];
        AddParameter(operation.Parameters, options.CursorParameter, "The next or previous cursor of another page. Without: the first page.", new OpenApiSchema { Type = JsonSchemaType.String });
        AddParameter(operation.Parameters, options.SizeParameter, "The most items. Without, or 0: the default size.", new OpenApiSchema { Type = JsonSchemaType.Integer, Format = "int32", Minimum = "0" });
        operation.Responses ??= [];
        operation.Responses.TryAdd("400", new OpenApiResponse
        {
            Description = "The cursor or the page size is refused.",
            Content = new Dictionary<string, OpenApiMediaType> { [ProblemAnswer.ContentType] = new() { Schema = ProblemSchema() } },
        });
    }

    private static void AddParameter(IList<IOpenApiParameter> parameters, string name, string description, OpenApiSchema schema)
    {
        if (!parameters.Any(parameter => parameter.In == ParameterLocation.Query && string.Equals(parameter.Name, name, StringComparison.OrdinalIgnoreCase)))
        {
            parameters.Add(new OpenApiParameter { Name = name, In = ParameterLocation.Query, Description = description, Schema = schema });
        }
    }

    private static OpenApiSchema ProblemSchema() => new()
    {
        Type = JsonSchemaType.Object,
        Properties = new Dictionary<string, IOpenApiSchema>
        {
            ["type"] = new OpenApiSchema { Type = JsonSchemaType.String, Enum = Values(PageProblem.CursorType, PageProblem.SizeType) },
            ["title"] = new OpenApiSchema { Type = JsonSchemaType.String },
            ["status"] = new OpenApiSchema { Type = JsonSchemaType.Integer },
            ["detail"] = new OpenApiSchema { Type = JsonSchemaType.String },
            ["reason"] = new OpenApiSchema { Type = JsonSchemaType.String, Enum = Values([.. PageProblem.CursorReasons.Union(PageProblem.SizeReasons)]) },
            ["maxSize"] = new OpenApiSchema { Type = JsonSchemaType.Integer, Format = "int32" },
        },
    };

    private static List<JsonNode> Values(params string[] values) => [.. values.Select(static value => JsonValue.Create(value))];
}
