using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Mvc.ApplicationParts;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.RateLimiting.AspNetCore.Tests;

/// <summary>Endpoints whose policies the middleware could not ask.</summary>
public sealed class GuardTests
{
    public static TheoryData<string, Action<WebApplication>> Unprotected { get; } = new()
    {
        { "/in/a/group", app => app.MapGroup("/in").RequireRateLimit("api").MapGroup("/a").MapGet("/group", () => "unprotected") },
        { "/no/such/path", app => app.MapFallback(() => "unprotected").RequireRateLimit("api") },
        { "/short", app => app.MapGet("/short", () => "unprotected").RequireRateLimit("api").ShortCircuit() },
        { "/controller", app => app.MapControllers().RequireRateLimit("api") },
        { "/branch/x", app => app.Map("/branch", branch => branch.UseRouting().UseEndpoints(endpoints => endpoints.MapGet("/x", [RateLimit("api")] () => "unprotected"))) },
        { "/late", app => UseBeforeRouting(app).MapGet("/late", () => "unprotected").RequireRateLimit("api") },
        { "/late", app => UseBeforeRouting(app).MapGet("/late", [RateLimit("api")] () => "unprotected") },
    };

    [Theory]
    [MemberData(nameof(Unprotected))]
    public async Task An_endpoint_that_the_middleware_does_not_see_fails_and_names_it(string path, Action<WebApplication> map)
    {
        await using Server server = await Server.StartAsync(map, Controllers, use: false);

        using HttpResponseMessage answer = await server.Client.GetAsync(path);

        answer.StatusCode.Should().Be(HttpStatusCode.InternalServerError);
        server.Errors.Should().ContainSingle().Which.Should().Contain("UseRateLimits()");
    }

    [Fact]
    public async Task Controllers_can_be_taken_out_of_all_policies_at_once()
    {
        await using Server server = await Server.StartAsync(app => app.MapControllers().DisableRateLimit(), Controllers);

        for (int i = 0; i < 2; i++)
        {
            using HttpResponseMessage answer = await server.Client.GetAsync("/controller");
            answer.StatusCode.Should().Be(HttpStatusCode.OK);
            RateLimitTests.Header(answer, "RateLimit").Should().BeNull();
        }
    }

    [Fact]
    public async Task A_fallback_to_a_controller_which_would_lose_its_policy_does_not_start()
    {
        Func<Task> start = () => Server.StartAsync(app => app.MapFallbackToController("Get", "Free").RequireRateLimit("api"), Controllers);

        await start.Should().ThrowAsync<InvalidOperationException>().WithMessage("*[RateLimit]*UseRateLimits()*");
    }

    internal static void Controllers(IServiceCollection services)
    {
        RateLimitTests.Policy("api", 1, 60)(services);
        services.AddControllers().ConfigureApplicationPartManager(parts => parts.ApplicationParts.Add(new AssemblyPart(typeof(LimitedController).Assembly)));
    }

    private static WebApplication UseBeforeRouting(WebApplication app)
    {
        app.UseRateLimits();
        app.UseRouting();
        return app;
    }
}

[ApiController]
[Route("/free-controller")]
public sealed class FreeController : ControllerBase
{
    [HttpGet]
    public string Get() => "ok";
}
