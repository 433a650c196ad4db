using System.Net;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Webhooks.AspNetCore.Tests;

public sealed class OpenApiTests
{
    [Fact]
    public async Task The_document_tells_of_the_headers_of_each_scheme_and_of_the_refusals()
    {
        JsonElement paths = await PathsAsync(app =>
        {
            app.MapGroup("/group").VerifyWebhook("orders").MapPost("/in", () => "ok");
            app.MapPost("/slack", [VerifyWebhook("slack")] () => "ok");
            app.MapPost("/github", () => "ok").VerifyWebhook("github", guardReplays: false);
            app.MapPost("/unprotected", () => "ok");
            app.MapControllers();
        });

        foreach ((string path, string[] required) in ((string, string[])[])
        [
            ("/group/in", ["webhook-id", "webhook-signature", "webhook-timestamp"]),
            ("/slack", ["X-Slack-Request-Timestamp", "X-Slack-Signature"]),
            ("/github", ["X-Hub-Signature-256"]),
            ("/events", ["webhook-id", "webhook-signature", "webhook-timestamp"]),
        ])
        {
            JsonElement operation = paths.GetProperty(path).GetProperty("post");
            operation.GetProperty("parameters").EnumerateArray()
                .Where(parameter => parameter.GetProperty("in").GetString() == "header" && parameter.TryGetProperty("required", out JsonElement isRequired) && isRequired.GetBoolean())
                .Select(parameter => parameter.GetProperty("name").GetString()).Should().BeEquivalentTo(required);
            JsonElement responses = operation.GetProperty("responses");
            responses.EnumerateObject().Select(response => response.Name).Should().BeEquivalentTo([.. (string[])["200", "401", "408", "413", "503"], .. path == "/github" ? Array.Empty<string>() : ["409"]]);
            responses.GetProperty("503").GetProperty("headers").TryGetProperty("Retry-After", out _).Should().BeTrue();
            responses.GetProperty("401").GetProperty("content").TryGetProperty("application/problem+json", out _).Should().BeTrue();
        }

        paths.GetProperty("/unprotected").GetProperty("post").GetProperty("responses").EnumerateObject().Should().ContainSingle();
    }

    [Fact]
    public async Task An_answer_that_the_endpoint_documents_itself_keeps_its_words()
    {
        JsonElement paths = await PathsAsync(app => app.MapPost("/", () => "ok").VerifyWebhook("orders").Produces<string>(StatusCodes.Status409Conflict, "text/plain"));

        JsonElement conflict = paths.GetProperty("/").GetProperty("post").GetProperty("responses").GetProperty("409");

        conflict.GetProperty("content").EnumerateObject().Select(content => content.Name).Should().Equal("text/plain");
        conflict.GetProperty("headers").TryGetProperty("Retry-After", out _).Should().BeTrue();
    }

    [Fact]
    public async Task The_document_tells_what_a_repeat_is_answered_where_replays_are_guarded()
    {
        JsonElement paths = await PathsAsync(app =>
        {
            app.MapPost("/guarded", () => TypedResults.NoContent()).VerifyWebhook("orders");
            app.MapPost("/unguarded", () => TypedResults.NoContent()).VerifyWebhook("orders", guardReplays: false);
            app.MapPost("/own", () => "ok").VerifyWebhook("orders");
        });

        string? Description(string path) => paths.GetProperty(path).GetProperty("post").GetProperty("responses").TryGetProperty("200", out JsonElement answer) ? answer.GetProperty("description").GetString() : null;

        (Description("/guarded"), Description("/unguarded"), Description("/own")).Should().Be(("The webhook was handled before.", null, "OK"));
    }

    [Fact]
    public async Task A_verifier_that_there_is_not_is_named()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.MapPost("/", () => "ok").VerifyWebhook("ordrs");
                app.MapOpenApi();
            },
            setup => setup.Services = services => services.AddOpenApi(options => options.AddWebhookReceiving()));

        using HttpResponseMessage answer = await server.Client.GetAsync("/openapi/v1.json");

        answer.StatusCode.Should().Be(HttpStatusCode.InternalServerError);
        server.Errors.Should().ContainSingle().Which.Should().Contain("There is no webhook verifier 'ordrs'.");
    }

    private static async Task<JsonElement> PathsAsync(Action<WebApplication> map)
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                map(app);
                app.MapOpenApi();
            },
            setup => setup.Services = services =>
            {
                Controllers.Add(services);
                services.AddOpenApi(options => options.AddWebhookReceiving());
            });

        return JsonDocument.Parse(await server.Client.GetStringAsync("/openapi/v1.json")).RootElement.GetProperty("paths");
    }
}
