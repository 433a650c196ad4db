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

    [Fact]
    public async Task A_page_that_status_code_pages_make_of_a_refusal_asks_nobody_again()
    {
        var limiter = new ScriptedLimiter(() => new(ScriptedLimiter.Refused(TimeSpan.FromSeconds(2))));
        bool hasFeature = true;
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseStatusCodePagesWithReExecute("/page");
                app.UseRouting();
                app.UseRateLimits("api", onRefused: (_, _) => Task.CompletedTask);
                app.MapGet("/", () => "ok");
                app.MapGet("/page", (HttpContext context) =>
                {
                    hasFeature = RequestRateLimits.Of(context) is not null;
                    return "slow down";
                });
            },
            Scripted(("api", limiter)),
            use: false);

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        (answer.StatusCode, await answer.Content.ReadAsStringAsync()).Should().Be((HttpStatusCode.TooManyRequests, "slow down"));
        RateLimitTests.Header(answer, "RateLimit").Should().Be("\"api\";r=0;t=2");
        RateLimitTests.Header(answer, "Retry-After").Should().Be("2");
        hasFeature.Should().BeFalse("nothing was charged that could be settled");
        limiter.Asked.Should().Be(1);
    }

    [Fact]
    public async Task A_refused_request_that_something_runs_again_does_not_reach_an_endpoint_with_a_policy()
    {
        var limiter = new ScriptedLimiter(() => new(ScriptedLimiter.Refused()));
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.Use(async (context, next) =>
                {
                    await next(context);
                    await next(context);
                });
                app.UseRateLimits(onRefused: (_, _) => Task.CompletedTask);
                app.MapGet("/", () => "unprotected").RequireRateLimit("api");
            },
            Scripted(("api", limiter)),
            use: false);

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        answer.StatusCode.Should().Be(HttpStatusCode.InternalServerError);
        limiter.Asked.Should().Be(1);
    }

    [Fact]
    public async Task A_page_that_an_exception_handler_makes_charges_nothing_more_and_carries_the_headers()
    {
        var limiter = new ScriptedLimiter(() => new(ScriptedLimiter.Admitted(TimeSpan.FromSeconds(3))));
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseExceptionHandler("/page");
                app.UseRouting();
                app.UseRateLimits("api");
                app.MapGet("/", string () => throw new InvalidOperationException("broken"));
                app.MapGet("/page", () => "sorry");
            },
            Scripted(("api", limiter)),
            use: false);

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        (answer.StatusCode, await answer.Content.ReadAsStringAsync()).Should().Be((HttpStatusCode.InternalServerError, "sorry"));
        RateLimitTests.Header(answer, "RateLimit").Should().Be("\"api\";r=5;t=3");
        (limiter.Asked, limiter.Settled.Count).Should().Be((1, 0));
    }

    [Fact]
    public async Task A_client_that_leaves_while_its_refusal_is_written_is_no_error()
    {
        var entered = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var left = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.Use(async (context, next) =>
                {
                    try
                    {
                        await next(context);
                    }
                    finally
                    {
                        left.SetResult();
                    }
                });
                app.UseRateLimits("api", onRefused: (context, _) =>
                {
                    entered.SetResult();
                    return Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, context.RequestAborted);
                });
            },
            Scripted(("api", new ScriptedLimiter(() => new(ScriptedLimiter.Refused())))),
            use: false);
        using var source = new CancellationTokenSource();
        Task<HttpResponseMessage> pending = server.Client.GetAsync("/", source.Token);
        await entered.Task.WaitAsync(TimeSpan.FromSeconds(15));

        await source.CancelAsync();

        await pending.Awaiting(it => it).Should().ThrowAsync<OperationCanceledException>();
        await left.Task.WaitAsync(TimeSpan.FromSeconds(15));
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task What_the_body_of_a_refusal_left_behind_when_it_threw_does_not_spoil_the_problem_details(bool service)
    {
        await using Server server = await Server.StartAsync(
            app => app.UseRateLimits("api", onRefused: (context, _) =>
            {
                (context.Response.StatusCode, context.Response.ContentType, context.Response.ContentLength) = (503, "text/html", 3);
                throw new InvalidOperationException("no");
            }),
            services =>
            {
                Scripted(("api", new ScriptedLimiter(() => new(ScriptedLimiter.Refused()))))(services);
                if (service)
                {
                    services.AddProblemDetails();
                }
            },
            use: false);

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        answer.StatusCode.Should().Be(HttpStatusCode.TooManyRequests);
        answer.Content.Headers.ContentType!.MediaType.Should().Be("application/problem+json");
        (await answer.Content.ReadAsStringAsync()).Should().Contain("\"status\":429");
    }

    [Fact]
    public async Task The_applications_own_problem_details_are_written_where_it_has_them_and_the_client_takes_them()
    {
        await using Server server = await Server.StartAsync(
            app => app.UseRateLimits("api"),
            services =>
            {
                Scripted(("api", new ScriptedLimiter(() => new(ScriptedLimiter.Refused()))))(services);
                services.AddProblemDetails(options => options.CustomizeProblemDetails = problem => problem.ProblemDetails.Extensions["own"] = 1);
            },
            use: false);

        using HttpResponseMessage own = await server.Client.GetAsync("/");
        using HttpResponseMessage html = await server.Client.SendAsync(new HttpRequestMessage(HttpMethod.Get, "/") { Headers = { { "Accept", "text/html" } } });
        using HttpResponseMessage head = await server.Client.SendAsync(new HttpRequestMessage(HttpMethod.Head, "/"));

        (await own.Content.ReadAsStringAsync()).Should().Contain("\"status\":429").And.Contain("\"own\":1");
        (await html.Content.ReadAsStringAsync()).Should().Contain("\"status\":429").And.NotContain("own");
        head.StatusCode.Should().Be(HttpStatusCode.TooManyRequests);
        RateLimitTests.Header(head, "Retry-After").Should().Be("1");
    }

    [Fact]
    public async Task A_service_for_problem_details_that_claims_to_have_written_and_did_not_is_written_for()
    {
        await using Server server = await Server.StartAsync(
            app => app.UseRateLimits("api"),
            services =>
            {
                Scripted(("api", new ScriptedLimiter(() => new(ScriptedLimiter.Refused()))))(services);
                services.AddSingleton<IProblemDetailsService, Claims>();
            },
            use: false);

        using HttpResponseMessage answer = await server.Client.GetAsync("/");

        answer.StatusCode.Should().Be(HttpStatusCode.TooManyRequests);
        (await answer.Content.ReadAsStringAsync()).Should().Contain("\"status\":429");
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

    /// <summary>As that of MVC does for a controller without [ApiController].</summary>
    private sealed class Claims : IProblemDetailsService
    {
        public ValueTask WriteAsync(ProblemDetailsContext context) => ValueTask.CompletedTask;

        public ValueTask<bool> TryWriteAsync(ProblemDetailsContext context) => new(true);
    }
}
