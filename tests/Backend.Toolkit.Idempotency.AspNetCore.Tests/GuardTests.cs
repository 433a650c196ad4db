using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

/// <summary>Endpoints that the middleware could not protect.</summary>
public sealed class GuardTests
{
    public static TheoryData<string, Action<WebApplication>> Unprotected { get; } = new()
    {
        { "/in/a/group", app => app.MapGroup("/in").RequireIdempotency("orders").MapGroup("/a").MapPost("/group", () => "unprotected") },
        { "/no/such/path", app => app.MapFallback(() => "unprotected").RequireIdempotency("orders") },
        { "/short", app => app.MapPost("/short", () => "unprotected").RequireIdempotency("orders").ShortCircuit() },
        { "/optional", app => app.MapPost("/optional", () => "unprotected").RequireIdempotency("orders", keyRequired: false) },
        { "/free", app => app.MapControllers().RequireIdempotency("orders") },
        { "/orders", app => app.MapControllers() },
        { "/branch/x", app => app.Map("/branch", branch => branch.UseRouting().UseEndpoints(endpoints => endpoints.MapPost("/x", [Idempotent("orders")] () => "unprotected"))) },
        { "/late", app => UseBeforeRouting(app).MapPost("/late", () => "unprotected").RequireIdempotency("orders") },
        { "/late", app => UseBeforeRouting(app).MapPost("/late", [Idempotent("orders")] () => "unprotected") },
    };

    [Theory]
    [MemberData(nameof(Unprotected))]
    public async Task An_endpoint_that_the_middleware_does_not_see_fails_and_names_it(string path, Action<WebApplication> map)
    {
        await using Server server = await Server.StartAsync(map, setup => (setup.Use, setup.Services) = (false, Controllers.Add));

        Answer answer = await server.AskAsync(path, body: """{"text":"two"}""", change: request => request.Content!.Headers.ContentType!.MediaType = "application/json");

        answer.Status.Should().Be(500);
        server.Errors.Should().ContainSingle().Which.Should().Contain("UseIdempotency()");
    }

    [Fact]
    public async Task A_safe_method_needs_no_protection()
    {
        await using Server server = await Server.StartAsync(app => app.MapControllers(), setup => (setup.Use, setup.Services) = (false, Controllers.Add));

        using HttpResponseMessage answer = await server.Client.GetAsync("/orders");

        answer.StatusCode.Should().Be(HttpStatusCode.OK);
    }

    [Fact]
    public async Task A_controller_runs_once_by_its_attribute_and_by_a_convention()
    {
        await using Server server = await Server.StartAsync(app => app.MapControllers().RequireIdempotency("orders"), setup => setup.Services = Controllers.Add);
        Action<HttpRequestMessage> json = request => request.Content!.Headers.ContentType!.MediaType = "application/json";

        Answer first = await server.AskAsync("/orders", body: """{"text":"two"}""", change: json);
        Answer second = await server.AskAsync("/orders", body: """{"text":"two"}""", change: json);
        Answer free = await server.AskAsync("/free");
        Answer freeAgain = await server.AskAsync("/free");

        (first.Status, first.Headers["Location"]).Should().Be((201, "/orders/1"));
        first.Body.Should().StartWith("""{"text":"two","number":""");
        second.ShouldBeReplayOf(first);
        freeAgain.ShouldBeReplayOf(free);
    }

    [Fact]
    public async Task What_is_said_nearest_to_an_endpoint_holds()
    {
        await using Server server = await Server.StartAsync(app =>
        {
            var group = app.MapGroup("").RequireIdempotency("nothing of that name");
            group.MapPost("/own", () => "own").RequireIdempotency("orders", keyRequired: false);
            group.MapPost("/group", () => "group");
        });

        Answer own = await server.AskAsync("/own", key: null);
        Answer keyed = await server.AskAsync("/own");
        Answer unknown = await server.AskAsync("/group");

        (own.Status, keyed.Status, unknown.Status).Should().Be((200, 200, 500));
        server.Errors.Should().ContainSingle().Which.Should().Contain("no executor 'nothing of that name'");
    }

    [Fact]
    public async Task The_middleware_may_be_used_twice()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app =>
        {
            app.UseIdempotency();
            app.MapPost("/", () => $"{++runs}").RequireIdempotency("orders");
            app.MapPost("/optional", () => "none").RequireIdempotency("orders", keyRequired: false);
        });

        Answer first = await server.AskAsync("/");
        Answer second = await server.AskAsync("/");
        Answer none = await server.AskAsync("/optional", key: null);

        second.ShouldBeReplayOf(first);
        (none.Status, runs).Should().Be((200, 1));
    }

    [Fact]
    public async Task An_endpoint_that_was_chosen_after_the_middleware_ran_for_another_fails()
    {
        await using Server server = await Server.StartAsync(app =>
        {
            app.Use((context, next) =>
            {
                context.SetEndpoint(null);
                context.Request.Path = "/second";
                return next(context);
            });
            app.UseRouting();
            app.MapPost("/first", () => "first").RequireIdempotency("orders", keyRequired: false);
            app.MapPost("/second", () => "second").RequireIdempotency("orders");
        }, setup => setup.Outside = app => app.UseRouting());

        Answer answer = await server.AskAsync("/first");

        answer.Status.Should().Be(500);
    }

    [Fact]
    public async Task An_optional_key_that_the_middleware_does_not_see_fails_also_after_requests_without_one()
    {
        await using Server server = await Server.StartAsync(app =>
        {
            app.UseRouting();
            app.UseWhen(context => !context.Request.Headers.ContainsKey("Idempotency-Key"), branch => branch.UseIdempotency());
            app.MapPost("/", () => "ran").RequireIdempotency("orders", keyRequired: false);
        }, setup => setup.Use = false);

        Answer without = await server.AskAsync("/", key: null);
        Answer with = await server.AskAsync("/");

        (without.Status, with.Status).Should().Be((200, 500));
    }

    [Fact]
    public async Task A_fallback_to_a_controller_which_would_lose_its_metadata_does_not_start()
    {
        Func<Task> start = () => Server.StartAsync(app => app.MapFallbackToController("Post", "Free").RequireIdempotency("orders"), setup => setup.Services = Controllers.Add);

        await start.Should().ThrowAsync<InvalidOperationException>().WithMessage("*[Idempotent]*UseIdempotency()*");
    }

    [Fact]
    public void The_middleware_without_its_services_does_not_start()
    {
        WebApplication app = WebApplication.CreateSlimBuilder().Build();

        Action use = () => app.UseIdempotency();

        use.Should().Throw<InvalidOperationException>().WithMessage("*AddHttpIdempotency()*");
    }

    [Fact]
    public void A_handler_without_an_operation_is_told_why()
    {
        Action get = () => new DefaultHttpContext().GetIdempotentOperation();

        get.Should().Throw<InvalidOperationException>().WithMessage("*FindIdempotentOperation()*");
    }

    private static WebApplication UseBeforeRouting(WebApplication app)
    {
        app.UseIdempotency();
        app.UseRouting();
        return app;
    }
}
