using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore.Tests;

/// <summary>When <c>No-Retry: 1</c> is added to what others answer.</summary>
public sealed class NoRetryTests
{
    [Theory]
    [InlineData(502, true)]
    [InlineData(503, true)]
    [InlineData(504, true)]
    [InlineData(200, false)]
    [InlineData(429, false)]
    [InlineData(500, false)]
    [InlineData(501, false)]
    [InlineData(505, false)]
    public async Task It_is_on_a_502_503_or_504_alone_when_a_call_has_given_up(int status, bool expected)
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/", (HttpContext context) =>
        {
            TimeoutBudget.Current!.MarkRetriesExhausted("payments");
            context.Response.StatusCode = status;
        }));

        HttpResponseMessage response = await server.GetAsync("/");

        ((int)response.StatusCode).Should().Be(status);
        response.Headers.Contains("No-Retry").Should().Be(expected);
    }

    [Theory]
    [InlineData("not set", false)]
    [InlineData("set", true)]
    [InlineData("set inside", true)]
    [InlineData("cleared", false)]
    public async Task It_says_what_the_budget_says_when_the_response_starts(string how, bool expected)
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/{body}", async (HttpContext context, string body) =>
        {
            if (how != "not set")
            {
                using TimeoutBudget inner = TimeoutBudget.Start(TimeSpan.FromSeconds(1));
                (how == "set inside" ? TimeoutBudget.Current : inner)!.MarkRetriesExhausted("payments");
            }

            if (how == "cleared")
            {
                TimeoutBudget.Current!.ClearRetriesExhausted("payments");
            }

            context.Response.StatusCode = 503;
            if (body == "body")
            {
                await context.Response.WriteAsync("busy");
                TimeoutBudget.Current!.MarkRetriesExhausted("too late to say");
            }
        }));

        HttpResponseMessage[] responses = [await server.GetAsync("/none"), await server.GetAsync("/body", "60000"), await server.GetAsync("/body")];

        responses.Should().OnlyContain(response => response.Headers.Contains("No-Retry") == expected);
    }

    [Fact]
    public async Task Middleware_inside_and_outside_that_answers_in_place_of_the_handler_is_covered_too()
    {
        await using Server server = await Server.StartBareAsync(app =>
        {
            app.Use(async (context, next) =>
            {
                try
                {
                    await next(context);
                }
                catch (FormatException)
                {
                    context.Response.StatusCode = 503;
                }
            });
            app.UseTimeoutBudgets();
            app.Use(async (context, next) =>
            {
                try
                {
                    await next(context);
                }
                catch (TimeoutException)
                {
                    context.Response.StatusCode = 504;
                }
            });
            app.MapGet("/{where}", string (string where) =>
            {
                TimeoutBudget.Current!.MarkRetriesExhausted("payments");
                throw where == "inside" ? new TimeoutException() : new FormatException();
            });
        });

        HttpResponseMessage[] responses = [await server.GetAsync("/inside"), await server.GetAsync("/outside")];

        responses.Select(response => (int)response.StatusCode).Should().Equal(504, 503);
        responses.Should().OnlyContain(response => response.Headers.GetValues("No-Retry").Single() == "1");
    }

    [Fact]
    public async Task A_503_of_a_handler_with_time_left_says_nothing()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/", () => Results.StatusCode(503)));

        HttpResponseMessage response = await server.GetAsync("/", "100");

        response.Headers.Contains("No-Retry").Should().BeFalse();
    }

    [Fact]
    public async Task An_error_page_outside_for_a_failure_after_the_expiry_carries_it()
    {
        Server? server = null;
        server = await Server.StartBareAsync(app =>
        {
            app.Use(async (context, next) =>
            {
                try
                {
                    await next(context);
                }
                catch (FormatException)
                {
                    context.Response.StatusCode = 503;
                }
            });
            app.UseTimeoutBudgets();
            app.MapGet("/", string () =>
            {
                server!.Time.Advance(TimeSpan.FromMilliseconds(100));
                throw new FormatException();
            });
        });
        await using Server disposed = server;

        HttpResponseMessage response = await server.GetAsync("/", "100");

        response.Headers.GetValues("No-Retry").Should().Equal("1");
    }
}
