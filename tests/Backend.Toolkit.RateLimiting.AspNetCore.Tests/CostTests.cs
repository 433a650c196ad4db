using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.RateLimiting.AspNetCore.Tests;

/// <summary>What requests cost, before and after, and by which limits.</summary>
public sealed class CostTests
{
    [Fact]
    public async Task The_application_tells_the_cost_under_its_policy_and_the_nearest_to_the_endpoint_knows_best()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseRateLimits("app", cost: _ => 2);
                app.MapGet("/", () => "ok");
                app.MapGroup("/group").RequireRateLimit("api", _ => 3).MapGet("/", () => "ok").RequireRateLimit("api", _ => 5).RequireRateLimit("app", _ => 7);
                app.MapGroup("/kept").RequireRateLimit("api", _ => 3).MapGet("/", [RateLimit("api")] () => "ok");
            },
            services =>
            {
                RateLimitTests.Policy("app", 100, 60)(services);
                RateLimitTests.Policy("api", 50, 60)(services);
            },
            use: false);

        RateLimitTests.Header(await server.Client.GetAsync("/"), "RateLimit").Should().StartWith("\"app\";r=98;");
        RateLimitTests.Header(await server.Client.GetAsync("/group"), "RateLimit").Should().Match("\"app\";r=91;*, \"api\";r=45;*");
        RateLimitTests.Header(await server.Client.GetAsync("/kept"), "RateLimit").Should().Match("\"app\";r=89;*, \"api\";r=42;*");
    }

    [Fact]
    public async Task The_handler_settles_all_policies_at_once_or_after_its_answer()
    {
        RequestRateLimits? kept = null;
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseRateLimits("app");
                app.MapGet("/all", (HttpContext context) =>
                {
                    RequestRateLimits limits = RequestRateLimits.Of(context)!;
                    limits.Policies.Should().Equal("app", "api");
                    limits.Invoking(it => it.Settle(-1)).Should().Throw<ArgumentOutOfRangeException>();
                    limits.Settle(10);
                }).RequireRateLimit("api");
                app.MapGet("/late", (HttpContext context) => { kept = RequestRateLimits.Of(context); }).RequireRateLimit("api");
            },
            services =>
            {
                RateLimitTests.Policy("app", 100, 60)(services);
                RateLimitTests.Policy("api", 50, 60)(services);
            },
            use: false);

        (await server.Client.GetAsync("/all")).StatusCode.Should().Be(HttpStatusCode.OK);
        RateLimitTests.Header(await server.Client.GetAsync("/late"), "RateLimit").Should().Match("\"app\";r=89;*, \"api\";r=39;*");
        kept!.Settle("api", 0);
        RateLimitTests.Header(await server.Client.GetAsync("/late"), "RateLimit").Should().Match("\"app\";r=88;*, \"api\";r=39;*");
    }

    [Fact]
    public async Task The_quota_is_that_of_the_clients_own_plan_and_of_the_last_reload()
    {
        IReadOnlyList<RateLimit> gold = [new RateLimit(1000, TimeSpan.FromMinutes(1))];
        KeyedTokenBucketLimiterOptions<HttpContext> options = Options(10);
        using var limiter = new KeyedTokenBucketLimiter<HttpContext>(options);
        await using Server server = await Server.StartAsync(app => app.UseRateLimits("api"), services => services.AddKeyedSingleton<KeyedRateLimiter<HttpContext>>("api", limiter), use: false);

        string?[] before = [await QuotaAsync("/"), await QuotaAsync("/gold"), await QuotaAsync("/")];
        limiter.Update(Options(20));

        before.Should().Equal("\"api\";q=10;w=60", "\"api\";q=1000;w=60", "\"api\";q=10;w=60");
        (await QuotaAsync("/")).Should().Be("\"api\";q=20;w=60");

        async Task<string?> QuotaAsync(string path) => RateLimitTests.Header(await server.Client.GetAsync(path), "RateLimit-Policy");

        KeyedTokenBucketLimiterOptions<HttpContext> Options(int permits)
        {
            var made = new KeyedTokenBucketLimiterOptions<HttpContext> { KeySelector = context => context.Request.Path.Value, LimitsFor = context => context.Request.Path == "/gold" ? gold : null };
            made.Limits.Add(new RateLimit(permits, TimeSpan.FromMinutes(1)));
            return made;
        }
    }

    [Fact]
    public async Task Of_many_requests_at_once_as_many_are_admitted_as_all_policies_allow_and_refusals_charge_nothing()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseRateLimits("app");
                app.MapGet("/", () => "ok").RequireRateLimit("api");
                app.MapGet("/left", () => "ok");
            },
            services =>
            {
                RateLimitTests.Policy("app", 1000, 3600)(services);
                RateLimitTests.Policy("api", 30, 3600)(services);
            },
            use: false);

        HttpResponseMessage[] answers = await Task.WhenAll(Enumerable.Range(0, 200).Select(_ => server.Client.GetAsync("/")));

        answers.Count(answer => answer.StatusCode == HttpStatusCode.OK).Should().Be(30);
        answers.Count(answer => answer.StatusCode == HttpStatusCode.TooManyRequests).Should().Be(170);
        RateLimitTests.Header(await server.Client.GetAsync("/left"), "RateLimit").Should().StartWith("\"app\";r=969;");
    }
}
