using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Webhooks.AspNetCore.Tests;

/// <summary>Endpoints that the middleware could not protect.</summary>
public sealed class GuardTests
{
    public static TheoryData<string, Action<WebApplication>> Unprotected { get; } = new()
    {
        { "/in/a/group", app => app.MapGroup("/in").VerifyWebhook("orders").MapGroup("/a").MapPost("/group", () => "unprotected") },
        { "/no/such/path", app => app.MapFallback(() => "unprotected").VerifyWebhook("orders") },
        { "/short", app => app.MapPost("/short", () => "unprotected").VerifyWebhook("orders").ShortCircuit() },
        { "/attribute", app => app.MapPost("/attribute", [VerifyWebhook("orders")] () => "unprotected") },
        { "/free", app => app.MapControllers().VerifyWebhook("orders") },
        { "/events", app => app.MapControllers() },
        { "/branch/x", app => app.Map("/branch", branch => branch.UseRouting().UseEndpoints(endpoints => endpoints.MapPost("/x", [VerifyWebhook("orders")] () => "unprotected"))) },
        { "/late", app => UseBeforeRouting(app).MapPost("/late", () => "unprotected").VerifyWebhook("orders") },
        { "/late", app => UseBeforeRouting(app).MapPost("/late", [VerifyWebhook("orders")] () => "unprotected") },
    };

    [Theory]
    [MemberData(nameof(Unprotected))]
    public async Task An_endpoint_that_the_middleware_does_not_see_fails_and_names_it(string path, Action<WebApplication> map)
    {
        await using Server server = await Server.StartAsync(map, setup => (setup.Use, setup.Services) = (false, Controllers.Add));

        Answer answer = await server.SendAsync(path, """{"type":"paid","amount":30}""", contentType: "application/json");

        (answer.Status, answer.Body).Should().Be((500, ""));
        server.Errors.Should().ContainSingle().Which.Should().Contain("UseWebhookVerification()");
    }

    [Fact]
    public async Task What_is_said_nearest_to_an_endpoint_holds_and_controllers_take_a_convention()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                RouteGroupBuilder group = app.MapGroup("").VerifyWebhook("nothing of that name");
                group.MapPost("/own", (HttpContext context) => context.GetVerifiedWebhook().Verifier).VerifyWebhook("github");
                group.MapPost("/group", () => "group");
                app.MapControllers().VerifyWebhook("stripe");
            },
            setup => setup.Services = Controllers.Add);

        Answer own = await server.SendAsync("/own", verifier: "github");
        Answer wrong = await server.SendAsync("/own", verifier: "orders");
        Answer unknown = await server.SendAsync("/group");
        Answer free = await server.SendAsync("/free", verifier: "stripe");

        (own.Body, wrong.Status, unknown.Status, free.Body).Should().Be(("github", 401, 500, "free"));
        server.Errors.Should().ContainSingle().Which.Should().Contain("no webhook verifier 'nothing of that name'").And.Contain("AddWebhookVerifier");
    }

    [Fact]
    public async Task The_middleware_may_be_used_twice()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app =>
        {
            app.UseWebhookVerification();
            app.MapPost("/", () => $"{++runs}").VerifyWebhook("orders");
        });

        Answer answer = await server.SendAsync("/");

        answer.Body.Should().Be("1");
    }

    [Fact]
    public async Task An_endpoint_that_was_chosen_after_the_middleware_ran_for_another_fails()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.Use((context, next) =>
                {
                    context.SetEndpoint(null);
                    context.Request.Path = "/second";
                    return next(context);
                });
                app.UseRouting();
                app.MapPost("/first", () => "first").VerifyWebhook("orders");
                app.MapPost("/second", () => "second").VerifyWebhook("github");
            },
            setup => setup.Outside = app => app.UseRouting());

        Answer answer = await server.SendAsync("/first");

        answer.Status.Should().Be(500);
    }

    [Fact]
    public async Task A_fallback_to_a_controller_which_would_lose_its_metadata_does_not_start()
    {
        Func<Task> start = () => Server.StartAsync(app => app.MapFallbackToController("Post", "Free").VerifyWebhook("orders"), setup => setup.Services = Controllers.Add);

        await start.Should().ThrowAsync<InvalidOperationException>().WithMessage("*[VerifyWebhook]*UseWebhookVerification()*");
    }

    [Fact]
    public void The_middleware_without_its_services_does_not_start()
    {
        WebApplication app = WebApplication.CreateSlimBuilder().Build();

        Action use = () => app.UseWebhookVerification();

        use.Should().Throw<InvalidOperationException>().WithMessage("*AddWebhookReceiving()*");
    }

    [Fact]
    public void A_handler_without_a_webhook_is_told_why_and_a_verifier_needs_a_name()
    {
        Action get = () => new DefaultHttpContext().GetVerifiedWebhook();
        Func<object> make = () => new VerifyWebhookAttribute(" ");

        get.Should().Throw<InvalidOperationException>().WithMessage("*UseWebhookVerification()*");
        make.Should().Throw<ArgumentException>();
    }

    [Fact]
    public async Task The_handler_is_told_what_is_known_of_the_message()
    {
        VerifiedWebhook? webhook = null;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", (HttpContext context) =>
        {
            webhook = context.GetVerifiedWebhook();
            return webhook.BodyLength;
        }).VerifyWebhook("orders"));

        Answer answer = await server.SendAsync("/", id: "msg_17");

        (webhook!.Id, webhook.Verifier, webhook.Timestamp, webhook.Message.IsIdSigned, answer.Body).Should().Be(("msg_17", "orders", new DateTimeOffset(2030, 1, 1, 0, 0, 0, TimeSpan.Zero), true, "10"));
    }

    private static WebApplication UseBeforeRouting(WebApplication app)
    {
        app.UseWebhookVerification();
        app.UseRouting();
        return app;
    }
}
