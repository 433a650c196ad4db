using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

public sealed class OpenApiTests
{
    [Fact]
    public async Task The_document_tells_of_the_key_the_retention_the_refusals_and_the_marker()
    {
        JsonElement paths = await PathsAsync(app =>
        {
            app.MapGroup("/group").RequireIdempotency("orders").MapPost("/in", () => "ok");
            app.MapPost("/optional", [Idempotent("orders", KeyRequired = false)] () => "ok");
            app.MapPost("/unprotected", () => "ok");
            app.MapControllers();
        });

        foreach ((string path, bool required) in ((string, bool)[])[("/group/in", true), ("/optional", false), ("/orders", true)])
        {
            JsonElement operation = paths.GetProperty(path).GetProperty("post");
            JsonElement parameter = operation.GetProperty("parameters").EnumerateArray().Single(parameter => parameter.GetProperty("name").GetString() == "Idempotency-Key");
            parameter.GetProperty("in").GetString().Should().Be("header");
            (parameter.TryGetProperty("required", out JsonElement isRequired) && isRequired.GetBoolean()).Should().Be(required);
            parameter.GetProperty("description").GetString().Should().Contain("kept for 2.00:00:00");
            JsonElement responses = operation.GetProperty("responses");
            responses.EnumerateObject().Select(response => response.Name).Should().Contain(["200", "400", "409", "412", "413", "422", "503"]);
            responses.GetProperty("200").GetProperty("headers").TryGetProperty("Idempotent-Replayed", out _).Should().BeTrue();
            responses.GetProperty("409").GetProperty("headers").TryGetProperty("Retry-After", out _).Should().BeTrue();
            responses.GetProperty("422").GetProperty("content").TryGetProperty("application/problem+json", out _).Should().BeTrue();
        }

        paths.GetProperty("/unprotected").GetProperty("post").GetProperty("responses").EnumerateObject().Should().ContainSingle();
        paths.GetProperty("/orders").GetProperty("get").GetProperty("responses").EnumerateObject().Should().ContainSingle();
    }

    [Fact]
    public async Task An_answer_that_the_endpoint_documents_itself_keeps_its_words_and_is_marked()
    {
        JsonElement paths = await PathsAsync(
            app => app.MapPost("/", () => "ok").RequireIdempotency("orders").Produces<string>(StatusCodes.Status422UnprocessableEntity, "text/plain"), IdempotencyProfile.Stripe);

        JsonElement responses = paths.GetProperty("/").GetProperty("post").GetProperty("responses");

        responses.GetProperty("422").GetProperty("content").EnumerateObject().Select(content => content.Name).Should().Equal("text/plain");
        responses.GetProperty("422").GetProperty("headers").EnumerateObject().Select(header => header.Name).Should().Equal("Idempotent-Replayed");
        responses.TryGetProperty("412", out _).Should().BeFalse();
        responses.GetProperty("409").GetProperty("content").TryGetProperty("application/json", out _).Should().BeTrue();
    }

    [Fact]
    public async Task Only_answers_that_are_stored_are_said_to_come_again()
    {
        JsonElement paths = await PathsAsync(app => app.MapPost("/", () => "ok").RequireIdempotency("orders")
            .ProducesProblem(400).ProducesProblem(403).ProducesProblem(500).ProducesProblem(502).ProducesProblem(StatusCodes.Status503ServiceUnavailable).Produces(404));

        paths.GetProperty("/").GetProperty("post").GetProperty("responses").EnumerateObject()
            .Where(response => response.Value.TryGetProperty("headers", out JsonElement headers) && headers.TryGetProperty("Idempotent-Replayed", out _)).Select(response => response.Name)
            .Should().BeEquivalentTo("200", "400", "404");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_document_tells_of_the_401_where_nobody_has_no_keys(bool allowAnonymous)
    {
        JsonElement paths = await PathsAsync(app => app.MapPost("/", () => "ok").RequireIdempotency("orders"), allowAnonymous: allowAnonymous);

        paths.GetProperty("/").GetProperty("post").GetProperty("responses").TryGetProperty("401", out _).Should().Be(!allowAnonymous);
    }

    private static async Task<JsonElement> PathsAsync(Action<WebApplication> map, IdempotencyProfile profile = IdempotencyProfile.Draft, bool allowAnonymous = false)
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                map(app);
                app.MapOpenApi();
            },
            setup =>
            {
                setup.Executor = o => o.Retention = TimeSpan.FromDays(2);
                setup.Http = o => (o.Profile, o.AllowAnonymous) = (profile, allowAnonymous);
                setup.Services = services =>
                {
                    Controllers.Add(services);
                    services.AddOpenApi(options => options.AddHttpIdempotency());
                };
            });

        return JsonDocument.Parse(await server.Client.GetStringAsync("/openapi/v1.json")).RootElement.GetProperty("paths");
    }
}
