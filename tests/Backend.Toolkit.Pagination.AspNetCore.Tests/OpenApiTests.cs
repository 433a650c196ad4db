using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Pagination.AspNetCore.Tests;

public sealed class OpenApiTests
{
    [Theory]
    [InlineData("/orders", true)]
    [InlineData("/either", true)]
    [InlineData("/part-of-more", true)]
    [InlineData("/bare", false)]
    [InlineData("/api-orders", true)]
    [InlineData("/api-orders/either", true)]
    [InlineData("/api-orders/bare", false)]
    [InlineData("/api-orders/from-query", true)]
    [InlineData("/api-orders/part-of-more", true)]
    public async Task The_document_tells_the_parameters_the_page_its_links_and_the_refusal_of(string path, bool hasLinks)
    {
        JsonElement document = await DocumentAsync(services => Controllers.Add(services));

        JsonElement operation = document.GetProperty("paths").GetProperty(path).GetProperty("get");
        Parameters(operation).Should().Contain("cursor: string").And.Contain("size: integer").And.NotContain(parameter => parameter.StartsWith("query", StringComparison.OrdinalIgnoreCase) || parameter.StartsWith("request", StringComparison.OrdinalIgnoreCase));
        JsonElement answer = operation.GetProperty("responses").GetProperty("200");
        answer.GetProperty("content").GetProperty("application/json").GetProperty("schema").GetProperty("$ref").GetString().Should().EndWith("/PageOfOrder");
        answer.TryGetProperty("headers", out JsonElement headers).Should().Be(hasLinks);
        (hasLinks && headers.TryGetProperty("Link", out _)).Should().Be(hasLinks);
        JsonElement refusal = operation.GetProperty("responses").GetProperty("400").GetProperty("content").GetProperty("application/problem+json").GetProperty("schema").GetProperty("properties");
        refusal.GetProperty("reason").GetProperty("enum").EnumerateArray().Select(reason => reason.GetString())
            .Should().BeEquivalentTo("malformed", "tooLong", "unknownKey", "altered", "foreign", "expired", "repeated", "negative", "tooLarge");
    }

    [Fact]
    public async Task The_document_has_no_schema_but_those_that_callers_see()
    {
        JsonElement document = await DocumentAsync(services => Controllers.Add(services));

        document.GetProperty("components").GetProperty("schemas").EnumerateObject().Select(schema => schema.Name).Should().BeEquivalentTo("Order", "PageOfOrder", "PageTotal");
        JsonElement page = document.GetProperty("components").GetProperty("schemas").GetProperty("PageOfOrder");
        page.GetProperty("properties").EnumerateObject().Select(property => property.Name).Should().Equal("items", "next", "previous", "total");
        page.GetProperty("required").EnumerateArray().Select(property => property.GetString()).Should().Equal("items", "next", "previous");
    }

    [Fact]
    public async Task The_document_has_the_configured_names_and_leaves_other_operations_alone()
    {
        JsonElement document = await DocumentAsync(services => services.AddHttpPagination(o => (o.CursorParameter, o.SizeParameter) = ("after", "limit")));

        Parameters(document.GetProperty("paths").GetProperty("/orders").GetProperty("get")).Should().Equal("status: string", "after: string", "limit: integer");
        JsonElement other = document.GetProperty("paths").GetProperty("/other").GetProperty("get");
        other.TryGetProperty("parameters", out _).Should().BeFalse();
        other.GetProperty("responses").EnumerateObject().Select(response => response.Name).Should().Equal("200");
    }

    [Fact]
    public async Task Source_generated_JSON_is_enough_for_the_document()
    {
        JsonElement document = await DocumentAsync(services => services.ConfigureHttpJsonOptions(o =>
        {
            o.SerializerOptions.TypeInfoResolverChain.Clear();
            o.SerializerOptions.TypeInfoResolverChain.Add(OrderJson.Default);
        }));

        document.GetProperty("components").GetProperty("schemas").TryGetProperty("PageOfOrder", out _).Should().BeTrue();
    }

    [Fact]
    public async Task A_400_that_the_endpoint_documents_itself_keeps_its_words()
    {
        JsonElement document = await DocumentAsync(static _ => { });

        document.GetProperty("paths").GetProperty("/own").GetProperty("get").GetProperty("responses").GetProperty("400").GetProperty("content").EnumerateObject().Select(content => content.Name)
            .Should().Equal("text/plain");
    }

    private static string[] Parameters(JsonElement operation) => [.. operation.GetProperty("parameters").EnumerateArray()
        .Where(parameter => parameter.GetProperty("in").GetString() == "query")
        .Select(parameter => $"{parameter.GetProperty("name").GetString()}: {parameter.GetProperty("schema").GetProperty("type")}")];

    private static async Task<JsonElement> DocumentAsync(Action<IServiceCollection> add)
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.MapGet("/orders", (PageQuery query, CursorPaginator paginator, string? status) => Order.Page(query, paginator).ToResult());
                app.MapGet("/either", Results<PageResult<Order>, NotFound> (PageQuery query, CursorPaginator paginator) => Order.Page(query, paginator).ToResult());
                app.MapGet("/part-of-more", ([AsParameters] OrderSearch search, CursorPaginator paginator) => Order.Page(search.Query, paginator).ToResult());
                app.MapGet("/bare", (PageQuery query, CursorPaginator paginator) => Order.Page(query, paginator));
                app.MapGet("/own", (PageQuery query, CursorPaginator paginator) => Order.Page(query, paginator)).Produces<string>(StatusCodes.Status400BadRequest, "text/plain");
                app.MapGet("/other", () => TypedResults.Ok());
                app.MapOpenApi();
                if (app.Services.GetService<Controllers>() is not null)
                {
                    app.MapControllers();
                }
            },
            services =>
            {
                services.AddOpenApi(o => o.AddHttpPagination());
                add(services);
            });

        Answer answer = await server.GetAsync("/openapi/v1.json");
        server.Errors.Should().BeEmpty();
        return answer.Json;
    }
}

internal readonly record struct OrderSearch(PageQuery Query, string? Status);
