using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore.Tests;

public sealed class OpenApiTests
{
    [Fact]
    public async Task The_document_tells_of_the_header_with_the_endpoints_maximum_and_of_the_refusals()
    {
        JsonElement paths = await PathsAsync(
            app =>
            {
                app.MapGet("/own", () => "ok").WithTimeoutBudget(TimeSpan.FromSeconds(2));
                app.MapGroup("/group").WithTimeoutBudget(TimeSpan.FromSeconds(3)).MapPost("/in", () => "ok");
                app.MapGet("/other", () => "ok");
                app.MapGet("/endless", () => "ok").WithTimeoutBudget(Timeout.InfiniteTimeSpan);
            },
            o => o.Maximum = TimeSpan.FromSeconds(10));

        foreach ((string path, string method, string? maximum) in ((string, string, string?)[])[("/own", "get", "2000"), ("/group/in", "post", "3000"), ("/other", "get", "10000"), ("/endless", "get", null)])
        {
            JsonElement operation = paths.GetProperty(path).GetProperty(method), parameter = operation.GetProperty("parameters").EnumerateArray().Single();
            (parameter.GetProperty("name").GetString(), parameter.GetProperty("in").GetString(), parameter.TryGetProperty("required", out _)).Should().Be(("Timeout-Budget", "header", false));
            parameter.GetProperty("schema").GetProperty("minimum").GetInt32().Should().Be(0);
            parameter.GetProperty("description").GetString().Should().EndWith(maximum is null ? "waits for the answer." : $"At most {maximum} count.");
            JsonElement responses = operation.GetProperty("responses");
            responses.EnumerateObject().Select(response => response.Name).Should().BeEquivalentTo("200", "503", "504");
            responses.GetProperty("200").TryGetProperty("headers", out _).Should().BeFalse();
            foreach (string status in (string[])["503", "504"])
            {
                responses.GetProperty(status).GetProperty("content").TryGetProperty("application/problem+json", out _).Should().BeTrue();
                responses.GetProperty(status).GetProperty("headers").EnumerateObject().Select(header => header.Name).Should().Equal("No-Retry");
            }
        }
    }

    [Fact]
    public async Task Answers_and_parameters_that_the_endpoint_documents_itself_keep_their_words()
    {
        JsonElement paths = await PathsAsync(
            app => app.MapGet("/", ([Microsoft.AspNetCore.Mvc.FromHeader(Name = "timeout-budget")] string? mine) => mine).Produces<string>(503, "text/plain").ProducesProblem(502),
            o => o.ReadEnvoyTimeout = true);

        JsonElement operation = paths.GetProperty("/").GetProperty("get");
        operation.GetProperty("parameters").EnumerateArray().Select(parameter => parameter.GetProperty("name").GetString()).Should().Equal("timeout-budget", "x-envoy-expected-rq-timeout-ms");
        JsonElement responses = operation.GetProperty("responses");
        responses.GetProperty("503").GetProperty("content").EnumerateObject().Select(content => content.Name).Should().Equal("text/plain");
        (responses.GetProperty("503").GetProperty("headers").TryGetProperty("No-Retry", out _), responses.GetProperty("502").GetProperty("headers").TryGetProperty("No-Retry", out _)).Should().Be((true, true));
    }

    [Fact]
    public async Task The_document_tells_of_what_holds_for_all_controllers_and_of_the_defaults_where_nothing_was_added()
    {
        JsonElement paths = await PathsAsync(app => app.MapControllers().WithTimeoutBudget(TimeSpan.FromSeconds(4)), null);

        paths.GetProperty("/controller").GetProperty("get").GetProperty("parameters").EnumerateArray().Single().GetProperty("description").GetString().Should().EndWith("At most 4000 count.");
    }

    private static async Task<JsonElement> PathsAsync(Action<WebApplication> map, Action<RequestBudgetOptions>? configure)
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                map(app);
                app.MapOpenApi();
            },
            services =>
            {
                services.AddControllers().AddApplicationPart(typeof(SlowController).Assembly);
                services.AddOpenApi(options => options.AddTimeoutBudgets());
                if (configure is not null)
                {
                    services.AddTimeoutBudgets(configure);
                }
            });

        return JsonDocument.Parse(await server.Client.GetStringAsync("/openapi/v1.json")).RootElement.GetProperty("paths");
    }
}
