using System.Buffers;
using System.IO.Pipelines;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Routing.Patterns;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Net.Http.Headers;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

/// <summary>A repeat gets what the first was answered, and nothing runs twice.</summary>
public sealed class ReplayTests
{
    public static TheoryData<string> Responses { get; } = new(
        "/created", "/text", "/json", "/bytes", "/empty", "/redirect", "/refused", "/problem", "/writer", "/async-writer", "/started", "/stream-writer", "/file", "/on-starting", "/twice");

    [Theory]
    [MemberData(nameof(Responses))]
    public async Task A_repeat_is_answered_byte_for_byte_the_same(string path)
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => Map(app, () => runs++));

        Answer first = await server.AskAsync(path);
        Answer second = await server.AskAsync(path);
        Answer other = await server.AskAsync(path, key: "key-2");

        second.ShouldBeReplayOf(first);
        other.IsReplay.Should().BeFalse();
        first.Headers.GetValueOrDefault("ETag").Should().Be(path == "/on-starting" ? "\"last, then first registered\"" : null);
        runs.Should().Be(2);
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task Cookies_and_headers_that_are_not_listed_are_not_replayed_and_those_from_outside_are_set_anew()
    {
        int outside = 0;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", (HttpContext context) =>
            {
                context.Response.Cookies.Append("session", "secret");
                context.Response.Headers["X-Own"] = "own";
                context.Response.Headers["X-Listed"] = new[] { "a", "b" };
                context.Response.Headers.ETag = "\"1\"";
                return "done";
            }).RequireIdempotency("orders"),
            setup =>
            {
                setup.Http = o => o.ReplayedHeaders.Add("X-Listed");
                setup.Outside = app => app.Use((context, next) =>
                {
                    context.Response.OnStarting(() =>
                    {
                        context.Response.Headers["X-Outside"] = $"{++outside}";
                        return Task.CompletedTask;
                    });
                    return next(context);
                });
            });

        Answer first = await server.AskAsync("/");
        Answer second = await server.AskAsync("/");

        first.Headers.Should().ContainKeys("Set-Cookie", "X-Own", "X-Listed", "ETag").And.Contain("X-Outside", "1");
        second.Headers.Should().NotContainKeys("Set-Cookie", "X-Own").And.Contain("X-Outside", "2").And.Contain("X-Listed", "a | b").And.Contain("ETag", "\"1\"");
        second.Body.Should().Be("done");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Compression_inside_is_kept_as_it_is_and_compression_outside_is_done_again(bool inside)
    {
        string text = new('a', 20_000);
        await using Server server = await Server.StartAsync(
            app =>
            {
                if (inside)
                {
                    app.UseResponseCompression();
                }

                app.MapPost("/", () => text).RequireIdempotency("orders");
            },
            setup =>
            {
                setup.Services = services => services.AddResponseCompression();
                setup.Outside = app =>
                {
                    if (!inside)
                    {
                        app.UseResponseCompression();
                    }
                };
            });

        Answer first = await server.AskAsync("/", change: request => request.Headers.AcceptEncoding.ParseAdd("gzip"));
        Answer same = await server.AskAsync("/", change: request => request.Headers.AcceptEncoding.ParseAdd("gzip"));
        Answer plain = await server.AskAsync("/");

        first.Headers.Should().Contain("Content-Encoding", "gzip").And.Contain("Vary", "Accept-Encoding");
        first.Bytes.Length.Should().BeLessThan(2_000);
        same.ShouldBeReplayOf(first);
        (plain.Headers.GetValueOrDefault("Content-Encoding"), plain.IsReplay).Should().Be((inside ? "gzip" : null, true));
        (inside ? plain.Bytes.Length : plain.Body.Length).Should().Be(inside ? first.Bytes.Length : 20_000);
    }

    [Fact]
    public async Task Another_request_under_the_key_is_refused_whatever_of_it_differs()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app =>
        {
            app.UsePathBase("/base");
            app.UseRouting();
            app.UseIdempotency();
            app.MapMethods("/{id}", ["POST", "PUT"], (string id) => $"{id} {++runs}").RequireIdempotency("orders");
        }, setup => setup.Use = false);
        await server.AskAsync("/1?a=b");

        Answer body = await server.AskAsync("/1?a=b", body: "two pears!");
        Answer path = await server.AskAsync("/2?a=b");
        Answer pathBase = await server.AskAsync("/base/1?a=b");
        Answer query = await server.AskAsync("/1?a=c");
        Answer type = await server.AskAsync("/1?a=b", change: request => request.Content!.Headers.ContentType!.CharSet = "latin1");
        Answer method = await server.AskAsync("/1?a=b", change: request => request.Method = HttpMethod.Put);
        Answer same = await server.AskAsync("/1?a=b");

        new[] { body, path, pathBase, query, type }.Should().OnlyContain(answer => answer.Status == 422 && answer.Code == "idempotency_key_reused");
        method.Body.Should().Be("1 2", "another method is another operation");
        same.Body.Should().Be("1 1");
        runs.Should().Be(2);
    }

    [Fact]
    public async Task The_same_key_on_another_endpoint_is_another_operation()
    {
        await using Server server = await Server.StartAsync(app =>
        {
            app.MapPost("/a", () => "a").RequireIdempotency("orders");
            app.MapPost("/b", () => "b").RequireIdempotency("orders");
        });

        Answer a = await server.AskAsync("/a");
        Answer b = await server.AskAsync("/b");

        (a.Body, b.Body, b.IsReplay).Should().Be(("a", "b", false));
    }

    [Fact]
    public async Task Users_who_chose_the_same_key_do_not_meet_and_nobody_has_none()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", (HttpContext context) => $"{context.User.Identity?.Name} {++runs}").RequireIdempotency("orders"),
            setup =>
            {
                setup.Http = o => o.AllowAnonymous = false;
                setup.Outside = Users.Use;
            });

        Answer ann = await server.AskAsync("/", change: Users.Are("ann"));
        Answer bob = await server.AskAsync("/", change: Users.Are("bob"));
        Answer elsewhere = await server.AskAsync("/", change: Users.Are("ann", "elsewhere"));
        Answer again = await server.AskAsync("/", change: Users.Are("ann"));
        Answer nobody = await server.AskAsync("/");

        (ann.Body, bob.Body, elsewhere.Body, again.Body).Should().Be(("ann 1", "bob 2", "ann 3", "ann 1"));
        (nobody.Status, nobody.Code).Should().Be((401, "idempotency_key_of_nobody"));
        server.Store.Calls(Verb.Begin).Should().Be(4);
    }

    [Theory]
    [InlineData("/then-body", "ABCD")]
    [InlineData("/then-file", "AfileB")]
    [InlineData("/then-synchronous", "AB")]
    public async Task Writer_and_stream_may_be_mixed_in_any_order(string path, string body)
    {
        string file = Path.GetTempFileName();
        await File.WriteAllTextAsync(file, "file");
        await using Server server = await Server.StartAsync(app =>
        {
            app.MapPost("/then-body", async (HttpContext context) =>
            {
                context.Response.BodyWriter.Write("A"u8);
                await context.Response.Body.WriteAsync("B"u8.ToArray());
                context.Response.BodyWriter.Write("C"u8);
                await context.Response.WriteAsync("D");
            }).RequireIdempotency("orders");
            app.MapPost("/then-file", async (HttpContext context) =>
            {
                PipeWriter writer = context.Response.BodyWriter;
                writer.Write("A"u8);
                await context.Response.SendFileAsync(file);
                writer.Write("B"u8);
            }).RequireIdempotency("orders");
            app.MapPost("/then-synchronous", (HttpContext context) =>
            {
                context.Response.BodyWriter.Write("A"u8);
                context.Response.Body.Write("B"u8);
            }).RequireIdempotency("orders");
        });

        Answer first = await server.AskAsync(path);
        Answer second = await server.AskAsync(path);
        File.Delete(file);

        first.Body.Should().Be(body);
        second.ShouldBeReplayOf(first);
    }

    [Fact]
    public async Task A_writer_that_is_completed_after_a_large_response_loses_nothing()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", async (HttpContext context) =>
        {
            await context.Response.BodyWriter.WriteAsync(new byte[100_000]);
            context.Response.BodyWriter.Write("end"u8);
            context.Response.BodyWriter.Complete();
        }).RequireIdempotency("orders"));

        Answer answer = await server.AskAsync("/");

        answer.Bytes.Should().HaveCount(100_003);
        answer.Body.Should().EndWith("end");
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task Users_who_are_known_by_name_only_meet_neither_those_of_another_issuer_nor_an_identifier()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => $"{++runs}").RequireIdempotency("orders"),
            setup =>
            {
                setup.Http = o => o.AllowAnonymous = false;
                setup.Outside = Users.Use;
            });

        Answer here = await server.AskAsync("/", change: Users.AreOnlyNamed("ann"));
        Answer elsewhere = await server.AskAsync("/", change: Users.AreOnlyNamed("ann", "elsewhere"));
        Answer again = await server.AskAsync("/", change: Users.AreOnlyNamed("ann"));
        Answer identified = await server.AskAsync("/", change: Users.Are("42"));
        Answer sameWord = await server.AskAsync("/", change: Users.AreOnlyNamed("42"));
        Answer forged = await server.AskAsync("/", change: Users.AreOnlyNamed("4 here 42", "elsewhere"));

        new[] { here.Body, elsewhere.Body, again.Body, identified.Body, sameWord.Body, forged.Body }.Should().Equal("1", "2", "1", "3", "4", "5");
    }

    [Fact]
    public async Task An_empty_failure_gets_the_same_page_from_outside_each_time()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => Results.NotFound()).RequireIdempotency("orders"),
            setup => setup.Outside = app => app.UseStatusCodePages());

        Answer first = await server.AskAsync("/");
        Answer second = await server.AskAsync("/");

        first.Body.Should().StartWith("Status Code: 404");
        second.ShouldBeReplayOf(first);
    }

    [Fact]
    public async Task A_refusal_of_a_plain_controller_has_its_problem_also_where_MVC_writes_none()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapControllerRoute("default", "shared/{controller}/{action}").RequireIdempotency("orders"),
            setup => setup.Services = services =>
            {
                Controllers.Add(services);
                services.AddProblemDetails();
            });
        await server.AskAsync("/shared/Conventional/One");

        Answer other = await server.AskAsync("/shared/Conventional/One", body: "three apples");

        (other.Status, other.Code).Should().Be((422, "idempotency_key_reused"));
    }

    [Fact]
    public void An_operation_is_named_by_its_route_and_not_by_the_action_behind_it()
    {
        var values = new RouteValueDictionary { ["action"] = "Post", ["controller"] = "Orders" };
        using ServiceProvider services = new ServiceCollection().AddMemoryIdempotencyStore().AddIdempotency("orders").BuildServiceProvider();
        var operations = new EndpointOperations(services);

        string[] names = [.. new[] { "/orders/{id}", "/{controller}/{action}" }.Select(text => operations.Of(
            new RouteEndpoint(_ => Task.CompletedTask, RoutePatternFactory.Parse(text, values, null, values), 0, null, null), new IdempotentAttribute("orders")).OperationOf("post"))];

        names.Should().Equal("orders POST /orders/{id}", "orders POST /{controller}/{action} action=Post controller=Orders");
    }

    [Fact]
    public async Task Actions_that_share_a_conventional_route_are_operations_of_their_own()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseRouting();
                app.UseIdempotency();
                app.MapControllerRoute("default", "shared/{controller}/{action}").RequireIdempotency("orders");
            },
            setup =>
            {
                setup.Use = false;
                setup.Services = Controllers.Add;
            });

        Answer one = await server.AskAsync("/shared/Conventional/One");
        Answer two = await server.AskAsync("/shared/Conventional/Two");
        Answer oneAgain = await server.AskAsync("/shared/Conventional/One");

        (one.Body, two.Body, oneAgain.IsReplay).Should().Be(("\"one\"", "\"two\"", true));
    }

    [Fact]
    public async Task A_response_that_the_handler_frames_itself_is_not_replayed_with_its_frames()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", async (HttpContext context) =>
        {
            context.Response.Headers.TransferEncoding = "chunked";
            await context.Response.Body.WriteAsync("1\r\nx\r\n0\r\n\r\n"u8.ToArray());
        }).RequireIdempotency("orders"));

        Answer first = await server.AskAsync("/");
        Answer second = await server.AskAsync("/");

        (first.Body, second.Status, second.Code).Should().Be(("x", 200, "idempotency_response_not_kept"));
    }

    [Fact]
    public async Task The_application_may_say_who_asks()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", (HttpContext context) => $"{context.Request.Headers["X-Tenant"]}").RequireIdempotency("orders"),
            setup => setup.Http = o => (o.AllowAnonymous, o.Subject) = (false, context => context.Request.Headers["X-Tenant"]));

        Answer first = await server.AskAsync("/", change: request => request.Headers.Add("X-Tenant", "one"));
        Answer second = await server.AskAsync("/", change: request => request.Headers.Add("X-Tenant", "two"));
        Answer none = await server.AskAsync("/");

        (first.Body, second.Body, none.Status).Should().Be(("one", "two", 401));
    }

    [Fact]
    public async Task Quoted_and_bare_keys_are_one_unless_strict()
    {
        await using Server lenient = await Server.StartAsync(app => app.MapPost("/", () => "done").RequireIdempotency("orders"));
        await using Server strict = await Server.StartAsync(app => app.MapPost("/", () => "done").RequireIdempotency("orders"), setup => setup.Http = o => o.StrictKeys = true);

        await lenient.AskAsync("/", key: "abc");
        Answer quoted = await lenient.AskAsync("/", key: "\"abc\"");
        Answer bare = await strict.AskAsync("/", key: "abc");
        Answer fine = await strict.AskAsync("/", key: "\"abc\"");

        quoted.IsReplay.Should().BeTrue();
        (bare.Status, bare.Code, fine.Status).Should().Be((400, "idempotency_key_malformed", 200));
    }

    [Fact]
    public async Task A_request_without_a_key_is_refused_or_runs_unprotected_and_safe_methods_pass_by()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app =>
        {
            RouteHandlerBuilder Endpoint(string path) => app.MapMethods(path, ["GET", "POST"], (HttpContext context) => $"{++runs} {context.FindIdempotentOperation() is null}");
            Endpoint("/required").RequireIdempotency("orders");
            Endpoint("/optional").RequireIdempotency("orders", keyRequired: false);
        });

        Answer required = await server.AskAsync("/required", key: null);
        Answer one = await server.AskAsync("/optional", key: null);
        Answer two = await server.AskAsync("/optional", key: null);
        Answer keyed = await server.AskAsync("/optional");
        Answer again = await server.AskAsync("/optional");
        string safe = await server.Client.GetStringAsync("/required");

        (required.Status, required.Code).Should().Be((400, "idempotency_key_missing"));
        (one.Body, two.Body, keyed.Body, again.Body, safe).Should().Be(("1 True", "2 True", "3 False", "3 False", "4 True"));
        server.Store.AllCalls.Should().Be(3, "only requests with a key ask the store");
    }

    [Fact]
    public async Task What_cannot_be_read_any_more_is_said_and_does_not_run()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => $"{++runs}").RequireIdempotency("orders"));
        server.Store.Outcome = outcome => new IdempotencyOutcome(outcome.Status, new byte[] { 2, 0, 1 });
        await server.AskAsync("/");

        Answer repeat = await server.AskAsync("/");

        (repeat.Status, repeat.Code, repeat.IsReplay, runs).Should().Be((500, "idempotency_response_unreadable", true, 1));
        server.Errors.Should().ContainSingle().Which.Should().Contain("cannot be read");
    }

    [Fact]
    public async Task A_key_with_an_old_time_in_it_is_refused()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => "done").RequireIdempotency("orders"));

        Answer old = await server.AskAsync("/", key: Guid.CreateVersion7(server.Time.GetUtcNow().AddDays(-2)).ToString());
        Answer young = await server.AskAsync("/", key: Guid.CreateVersion7(server.Time.GetUtcNow()).ToString());

        (old.Status, old.Code, young.Status).Should().Be((412, "idempotency_key_expired", 200));
    }

    private static void Map(WebApplication web, Action ran)
    {
        web.Use((context, next) =>
        {
            ran();
            return next(context);
        });
        RouteGroupBuilder app = web.MapGroup("").RequireIdempotency("orders");
        app.MapPost("/created", () => Results.Created("/orders/1", new { id = 1 }));
        app.MapPost("/text", () => "grüße");
        app.MapPost("/json", () => new { text = new string('x', 20_000) });
        app.MapPost("/bytes", () => Results.Bytes([0, 1, 2, 255], "application/x-own", "name.bin"));
        app.MapPost("/empty", () => Results.NoContent());
        app.MapPost("/redirect", () => Results.Redirect("/elsewhere"));
        app.MapPost("/refused", () => Results.BadRequest("no"));
        app.MapPost("/problem", () => Results.Problem("too many apples", statusCode: 422));
        app.MapPost("/writer", (HttpContext context) =>
        {
            Encoding.UTF8.GetBytes("written and not flushed").CopyTo(context.Response.BodyWriter.GetMemory(100));
            context.Response.BodyWriter.Advance(23);
        });
        app.MapPost("/async-writer", async (HttpContext context) =>
        {
            await context.Response.BodyWriter.WriteAsync("one, "u8.ToArray());
            await context.Response.BodyWriter.WriteAsync("two"u8.ToArray());
            await context.Response.CompleteAsync();
        });
        app.MapPost("/started", async (HttpContext context) =>
        {
            context.Response.ContentType = "text/plain";
            await context.Response.StartAsync();
            await context.Response.WriteAsync("started");
            await context.Response.Body.FlushAsync();
        });
        app.MapPost("/stream-writer", async (HttpContext context) =>
        {
            await using var writer = new StreamWriter(context.Response.Body);
            await writer.WriteAsync("through a writer that disposes of the body");
        });
        app.MapPost("/file", async (HttpContext context) => await context.Response.SendFileAsync(Directory.GetFiles(AppContext.BaseDirectory, "*.runtimeconfig.json")[0]));
        app.MapPost("/on-starting", (HttpContext context) =>
        {
            context.Response.OnStarting(() =>
            {
                context.Response.Headers.ETag = context.Response.Headers.ETag.ToString() + "first registered\"";
                return Task.CompletedTask;
            });
            context.Response.OnStarting(() =>
            {
                context.Response.Headers.ETag = "\"last, then ";
                context.Response.StatusCode = 202;
                return Task.CompletedTask;
            });
            return "callbacks set headers";
        });
        app.MapPost("/twice", (HttpContext context) =>
        {
            context.Response.Headers.Append(HeaderNames.Link, "</a>; rel=\"a\"");
            context.Response.Headers.Append(HeaderNames.Link, "</b>; rel=\"b\"");
            return "two lines";
        });
    }
}
