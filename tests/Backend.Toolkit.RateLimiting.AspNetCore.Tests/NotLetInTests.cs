using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.RateLimiting.AspNetCore.Tests;

/// <summary>Requests that a policy refuses, or that no policy can be asked about.</summary>
public sealed class NotLetInTests
{
    [Theory]
    [InlineData("throws")]
    [InlineData("fails")]
    [InlineData("fails later")]
    public async Task A_limiter_that_fails_fails_the_request_and_others_get_back_what_they_charged(string how)
    {
        var first = new ScriptedLimiter(() => new(ScriptedLimiter.Admitted()));
        var second = new ScriptedLimiter(() => how switch
        {
            "throws" => throw new InvalidOperationException("down"),
            "fails" => ValueTask.FromException<RateLimitDecision>(new InvalidOperationException("down")),
            _ => FailLaterAsync(),
        });
        await using Server server = await Server.StartAsync(app => app.MapGet("/", () => "ok").RequireRateLimit("first").RequireRateLimit("second"), Scripted(("first", first), ("second", second)));

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        answer.StatusCode.Should().Be(HttpStatusCode.InternalServerError);
        first.Settled.Should().Equal(0);
        second.Settled.Should().BeEmpty();
        server.Errors.Should().ContainSingle().Which.Should().Contain("down");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_refusal_by_the_third_gives_back_what_the_first_two_charged(bool waits)
    {
        var first = new ScriptedLimiter(() => new(ScriptedLimiter.Admitted()));
        var second = new ScriptedLimiter(() => waits ? LaterAsync(ScriptedLimiter.Admitted()) : new(ScriptedLimiter.Admitted()));
        var third = new ScriptedLimiter(() => new(ScriptedLimiter.Refused(TimeSpan.FromSeconds(2))));
        await using Server server = await Server.StartAsync(
            app => app.MapGet("/", () => "ok").RequireRateLimit("first").RequireRateLimit("second").RequireRateLimit("third"), Scripted(("first", first), ("second", second), ("third", third)));

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        answer.StatusCode.Should().Be(HttpStatusCode.TooManyRequests);
        RateLimitTests.Header(answer, "RateLimit").Should().Be("\"third\";r=0;t=2");
        (first.Asked, second.Asked, third.Asked).Should().Be((1, 1, 1));
        first.Settled.Should().Equal(0);
        second.Settled.Should().Equal(0);
        third.Settled.Should().BeEmpty();
    }

    private static Action<IServiceCollection> Scripted(params (string Name, ScriptedLimiter Limiter)[] policies) => services =>
    {
        foreach ((string name, ScriptedLimiter limiter) in policies)
        {
            services.AddKeyedSingleton<KeyedRateLimiter<HttpContext>>(name, limiter);
        }
    };

    private static async ValueTask<RateLimitDecision> FailLaterAsync()
    {
        await Task.Yield();
        throw new InvalidOperationException("down");
    }

    private static async ValueTask<RateLimitDecision> LaterAsync(RateLimitDecision decision)
    {
        await Task.Yield();
        return decision;
    }
}
