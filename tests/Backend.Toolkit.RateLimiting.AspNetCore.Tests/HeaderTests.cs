using System.Globalization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.RateLimiting.AspNetCore.Tests;

/// <summary>The numbers in the headers.</summary>
public sealed class HeaderTests
{
    [Theory]
    [InlineData(100, 60, null, "q=100;w=60")]
    [InlineData(100, 100, 7, "q=7;w=7")]
    [InlineData(1000, 1, 29, "q=29;w=1")]
    [InlineData(0.1, 1, 3, "q=3;w=30")]
    [InlineData(0.5, 86400, null, "q=1;w=172800")]
    [InlineData(1, 315_360_000, null, "q=1;w=315360000")]
    [InlineData(3, 0.9, 4, "q=4;w=2")]
    [InlineData(1_234_567, 1, int.MaxValue, "q=2147483647;w=1740")]
    public async Task A_quota_is_the_burst_and_the_whole_seconds_in_which_it_comes_back(double permits, double seconds, int? burst, string quota)
    {
        await using Server server = await Server.StartAsync(
            app => app.UseRateLimits("api"),
            services => services.AddTokenBucketLimiter<HttpContext>("api", _ => null, o => o.Limits.Add(new RateLimit(permits, TimeSpan.FromSeconds(seconds), burst))),
            use: false);

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        RateLimitTests.Header(answer, "RateLimit-Policy").Should().Be("\"api\";" + quota);
    }

    [Fact]
    public async Task The_quota_of_a_window_is_its_limit_and_length()
    {
        await using Server server = await Server.StartAsync(
            app => app.UseRateLimits("api"),
            services => services.AddSlidingWindowLimiter<HttpContext>("api", _ => null, o => o.Limits.Add(new RateLimit(7, TimeSpan.FromSeconds(100)))),
            use: false);

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        RateLimitTests.Header(answer, "RateLimit-Policy").Should().Be("\"api\";q=7;w=100");
        RateLimitTests.Header(answer, "RateLimit").Should().StartWith("\"api\";r=6;t=");
    }

    [Theory]
    [InlineData(0, 0, 1)]
    [InlineData(1, 1, 1)]
    [InlineData(10_000_000, 1, 1)]
    [InlineData(10_000_001, 2, 2)]
    [InlineData(long.MaxValue, 922_337_203_686, 922_337_203_686)]
    public async Task Times_are_whole_seconds_rounded_up_and_one_that_is_refused_never_comes_back_at_once(long ticks, long reset, long retry)
    {
        bool admits = true;
        var limiter = new ScriptedLimiter(() => new(admits ? ScriptedLimiter.Admitted(new TimeSpan(ticks)) : ScriptedLimiter.Refused(new TimeSpan(ticks))));
        await using Server server = await Server.StartAsync(app => app.UseRateLimits("api"), services => services.AddKeyedSingleton<KeyedRateLimiter<HttpContext>>("api", limiter), use: false);

        using HttpResponseMessage admitted = await server.Client.GetAsync("/");
        admits = false;
        using HttpResponseMessage refused = await server.Client.GetAsync("/");

        RateLimitTests.Header(admitted, "RateLimit").Should().Be($"\"api\";r=5;t={reset}");
        RateLimitTests.Header(refused, "RateLimit").Should().Be($"\"api\";r=0;t={retry}");
        RateLimitTests.Header(refused, "Retry-After").Should().Be($"{retry}");
    }

    [Theory]
    [InlineData("ar-SA")]
    [InlineData("th-TH")]
    [InlineData("tr-TR")]
    public async Task Headers_and_details_are_the_same_in_every_culture(string culture)
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.Use((context, next) =>
                {
                    CultureInfo.CurrentCulture = CultureInfo.GetCultureInfo(culture);
                    return next(context);
                });
                app.UseRateLimits("api");
            },
            RateLimitTests.Policy("api", 1, 7654),
            use: false);
        await server.Client.GetAsync("/");

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        RateLimitTests.Header(answer, "RateLimit-Policy").Should().Be("\"api\";q=1;w=7654");
        RateLimitTests.Header(answer, "RateLimit").Should().Be("\"api\";r=0;t=7654");
        RateLimitTests.Header(answer, "Retry-After").Should().Be("7654");
        (await answer.Content.ReadAsStringAsync()).Should().Contain("in 7654 s");
    }
}
