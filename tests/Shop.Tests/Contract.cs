using System.Globalization;
using System.Text.Json;
using Microsoft.OpenApi;

namespace Shop.Tests;

/// <summary>The document of a shop, held against what the shop answers: nothing comes that is not in it.</summary>
internal sealed class Contract(OpenApiDocument document)
{
    /// <summary>What clients of this API look at; the others are those of HTTP itself.</summary>
    private static readonly string[] Headers = ["Idempotent-Replayed", "Link", "Location", "No-Retry", "RateLimit", "RateLimit-Policy", "Retry-After"];

    private readonly HashSet<string> _seen = [];

    /// <summary>What is promised under these paths and has not come yet: statuses, and headers of statuses.</summary>
    public IEnumerable<string> Missing(params string[] paths) => document.Paths.Where(path => paths.Any(path.Key.StartsWith)).SelectMany(path => path.Value.Operations!.SelectMany(operation =>
        operation.Value.Responses!.SelectMany(response => (response.Value.Headers?.Keys ?? []).Select(header => $" {header}").Prepend("").Select(header => $"{operation.Key} {path.Key} {response.Key}{header}"))))
        .Except(_seen);

    /// <param name="path">As the document has it.</param>
    /// <param name="response">What was answered; disposed.</param>
    /// <returns>The status.</returns>
    public async Task<int> CheckAsync(string path, HttpResponseMessage response)
    {
        using HttpResponseMessage answer = response;
        HttpMethod method = answer.RequestMessage!.Method;
        string status = ((int)answer.StatusCode).ToString(CultureInfo.InvariantCulture), what = $"{method} {path} {status}";
        string body = await answer.Content.ReadAsStringAsync();
        OpenApiOperation operation = document.Paths[path].Operations![method];
        operation.Responses!.Should().ContainKey(status, $"{what} came: {body}");
        IOpenApiResponse promised = operation.Responses![status];

        string? type = answer.Content.Headers.ContentType?.MediaType;
        (promised.Content?.Keys ?? []).Should().BeEquivalentTo(type is null ? [] : [type], $"that is the content of {what}: {body}");
        string[] headers = [.. answer.Headers.Select(header => header.Key).Intersect(Headers, StringComparer.OrdinalIgnoreCase)];
        headers.Except(promised.Headers?.Keys ?? [], StringComparer.OrdinalIgnoreCase).Should().BeEmpty($"{what} came with {string.Join(", ", headers)}");
        if (type is not null)
        {
            Problems(promised.Content![type].Schema!, JsonDocument.Parse(body).RootElement, "$").Should().BeEmpty($"{what} came with {body}");
        }

        _seen.Add(what);
        _seen.UnionWith((promised.Headers?.Keys ?? []).Intersect(headers, StringComparer.OrdinalIgnoreCase).Select(header => $"{what} {header}"));
        return (int)answer.StatusCode;
    }

    /// <summary>As much of JSON Schema as the document uses.</summary>
    public static IEnumerable<string> Problems(IOpenApiSchema schema, JsonElement value, string at)
    {
        JsonSchemaType type = value.ValueKind switch
        {
            JsonValueKind.Object => JsonSchemaType.Object,
            JsonValueKind.Array => JsonSchemaType.Array,
            JsonValueKind.String => JsonSchemaType.String,
            JsonValueKind.Number when value.TryGetInt64(out _) => JsonSchemaType.Integer | JsonSchemaType.Number,
            JsonValueKind.Number => JsonSchemaType.Number,
            JsonValueKind.Null => JsonSchemaType.Null,
            _ => JsonSchemaType.Boolean,
        };
        if (schema.OneOf is { Count: > 0 } alternatives)
        {
            return alternatives.Any(alternative => !Problems(alternative, value, at).Any()) ? [] : [$"{at} is none of the alternatives"];
        }

        if (schema.Type is { } wanted && (wanted & type) == 0)
        {
            return [$"{at} must be {wanted}"];
        }

        List<string> problems = [];
        if (schema.Enum is { Count: > 0 } words && !words.Any(word => word?.ToJsonString() == value.GetRawText()))
        {
            problems.Add($"{at} must be one of {string.Join(", ", words.Select(word => word?.ToJsonString()))}");
        }

        if (value.ValueKind == JsonValueKind.Object)
        {
            problems.AddRange((schema.Required ?? new HashSet<string>()).Where(name => !value.TryGetProperty(name, out _)).Select(name => $"{at}.{name} is missing"));
            problems.AddRange((schema.Properties ?? new Dictionary<string, IOpenApiSchema>()).Where(property => value.TryGetProperty(property.Key, out _))
                .SelectMany(property => Problems(property.Value, value.GetProperty(property.Key), $"{at}.{property.Key}")));
        }
        else if (value.ValueKind == JsonValueKind.Array && schema.Items is { } items)
        {
            problems.AddRange(value.EnumerateArray().SelectMany((item, i) => Problems(items, item, $"{at}[{i}]")));
        }
        else if (value.ValueKind == JsonValueKind.String && (value.GetString()!.Length < (schema.MinLength ?? 0) || value.GetString()!.Length > (schema.MaxLength ?? int.MaxValue)))
        {
            problems.Add($"{at} must have {schema.MinLength} to {schema.MaxLength} characters");
        }
        else if (value.ValueKind == JsonValueKind.Number && (value.GetDecimal() < Bound(schema.Minimum, decimal.MinValue) || value.GetDecimal() > Bound(schema.Maximum, decimal.MaxValue)))
        {
            problems.Add($"{at} must be between {schema.Minimum} and {schema.Maximum}");
        }

        return problems;
    }

    private static decimal Bound(string? text, decimal otherwise) => text is null ? otherwise : decimal.Parse(text, CultureInfo.InvariantCulture);
}
