using System.Net;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.RateLimiting.AspNetCore.Tests;

public sealed class OpenApiTests
{
    [Fact]
    public async Task The_document_tells_of_the_429_and_of_the_headers()
    {
        JsonElement paths = await PathsAsync(app =>
        {
            app.UseRateLimits();
            app.MapGroup("/group").RequireRateLimit("api").MapGet("/in", () => "ok");
            app.MapGet("/attribute", [RateLimit("api")] () => "ok");
            app.MapGet("/free", () => "ok");
            app.MapGet("/disabled", [RateLimit("api")] () => "ok").DisableRateLimit();
            app.MapControllers();
        });

        ShouldBeLimited(paths, "/group/in");
        ShouldBeLimited(paths, "/attribute");
        ShouldBeLimited(paths, "/controller");
        Statuses(paths, "/free").Should().Equal("200");
        Statuses(paths, "/disabled").Should().Equal("200");
    }

    [Fact]
    public async Task The_document_tells_of_a_policy_for_the_whole_application()
    {
        JsonElement paths = await PathsAsync(app =>
        {
            app.UseRateLimits("api");
            app.MapGet("/all", () => "ok");
            app.MapGet("/free", () => "ok").DisableRateLimit();
            app.MapControllers();
        });

        ShouldBeLimited(paths, "/all");
        ShouldBeLimited(paths, "/free-controller");
        Statuses(paths, "/free").Should().Equal("200");
    }

    [Fact]
    public async Task A_wrong_content_type_counts_against_the_limit_of_the_application_also_where_the_endpoint_has_none()
    {
        static void Map(WebApplication app)
        {
            app.UseRateLimits("api");
            app.MapPost("/free", (string[] words) => words.Length).DisableRateLimit().ProducesProblem(StatusCodes.Status415UnsupportedMediaType);
        }

        JsonElement paths = await PathsAsync(Map);
        await using Server server = await Server.StartAsync(Map, GuardTests.Controllers, use: false);

        using HttpResponseMessage right = await server.Client.PostAsync("/free", new StringContent("[]", null, "application/json"));
        using HttpResponseMessage wrong = await server.Client.PostAsync("/free", new StringContent("[]", null, "text/plain"));
        using HttpResponseMessage tooOften = await server.Client.PostAsync("/free", new StringContent("[]", null, "text/plain"));

        (right.StatusCode, wrong.StatusCode, tooOften.StatusCode).Should().Be((HttpStatusCode.OK, HttpStatusCode.UnsupportedMediaType, HttpStatusCode.TooManyRequests));
        (right.Headers.Contains("RateLimit"), wrong.Headers.Contains("RateLimit"), tooOften.Headers.Contains("RateLimit")).Should().Be((false, true, true));
        paths.GetProperty("/free").GetProperty("post").GetProperty("responses").EnumerateObject().Where(response => response.Value.TryGetProperty("headers", out JsonElement headers) && headers.TryGetProperty("RateLimit", out _))
            .Select(response => response.Name).Should().BeEquivalentTo("415", "429");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_document_tells_of_what_holds_for_all_controllers(bool limited)
    {
        JsonElement paths = await PathsAsync(app =>
        {
            app.UseRateLimits();
            _ = limited ? app.MapControllers().RequireRateLimit("api") : app.MapControllers().DisableRateLimit();
        });

        if (limited)
        {
            ShouldBeLimited(paths, "/free-controller");
        }
        else
        {
            Statuses(paths, "/controller").Should().Equal("200");
        }
    }

    [Fact]
    public async Task A_429_that_the_endpoint_documents_itself_keeps_its_words()
    {
        JsonElement paths = await PathsAsync(app =>
        {
            app.UseRateLimits();
            app.MapGet("/own", () => "ok").RequireRateLimit("api").Produces<string>(StatusCodes.Status429TooManyRequests, "text/plain");
        });

        JsonElement refusal = paths.GetProperty("/own").GetProperty("get").GetProperty("responses").GetProperty("429");
        refusal.GetProperty("content").EnumerateObject().Select(content => content.Name).Should().Equal("text/plain");
        refusal.GetProperty("headers").EnumerateObject().Select(header => header.Name).Should().BeEquivalentTo("RateLimit-Policy", "RateLimit", "Retry-After");
    }

    private static async Task<JsonElement> PathsAsync(Action<WebApplication> map)
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                map(app);
                app.MapOpenApi();
            },
            services =>
            {
                GuardTests.Controllers(services);
                services.AddOpenApi(options => options.AddRateLimits());
            },
            use: false);

        return JsonDocument.Parse(await server.Client.GetStringAsync("/openapi/v1.json")).RootElement.GetProperty("paths");
    }

    private static IEnumerable<string> Statuses(JsonElement paths, string path) => paths.GetProperty(path).GetProperty("get").GetProperty("responses").EnumerateObject().Select(response => response.Name);

    private static void ShouldBeLimited(JsonElement paths, string path)
    {
        JsonElement responses = paths.GetProperty(path).GetProperty("get").GetProperty("responses");
        responses.GetProperty("429").GetProperty("content").TryGetProperty("application/problem+json", out _).Should().BeTrue();
        responses.GetProperty("429").GetProperty("headers").EnumerateObject().Select(header => header.Name).Should().BeEquivalentTo("RateLimit-Policy", "RateLimit", "Retry-After");
        responses.GetProperty("200").GetProperty("headers").EnumerateObject().Select(header => header.Name).Should().BeEquivalentTo("RateLimit-Policy", "RateLimit");
    }
}
