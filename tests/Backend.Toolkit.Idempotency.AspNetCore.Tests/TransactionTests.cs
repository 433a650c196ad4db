using System.Data.Common;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Mvc.Filters;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

/// <summary>Transaction mode over HTTP: the handler begins, the middleware commits what the handler did together with its response.</summary>
public sealed class TransactionTests
{
    private readonly List<TestConnection> _connections = [];
    private int _runs;

    private TestTransaction Last => _connections[^1].Transactions[^1];

    [Theory]
    [InlineData("/handler")]
    [InlineData("/filtered")]
    [InlineData("/controller")]
    [InlineData("/swallows")]
    [InlineData("/exception-handler")]
    public async Task Effects_and_response_are_one_commit_and_a_repeat_replays_whatever_stands_between(string path)
    {
        await using Server server = await StartAsync();

        Answer first = await server.AskAsync(path);
        (bool, bool) run = (Last.IsCommitted, Last.IsDisposed);
        Answer second = await server.AskAsync(path);

        (first.Status, first.Body).Should().Be((201, "\"order 1\""));
        run.Should().Be((true, true));
        second.ShouldBeReplayOf(first, "X-Ran");
        (Last.IsCommitted, Last.IsRolledBack, Last.IsDisposed).Should().Be((false, true, true));
        second.Headers.Should().NotContainKey("X-Ran");
        (_runs, server.Store.Calls(Verb.CompleteAndCommit), server.Store.Calls(Verb.Begin)).Should().Be((1, 1, 0));
        server.Errors.Should().HaveCount(path == "/exception-handler" ? 1 : 0, "an exception handler logs what it sees, also when it does not matter");
    }

    [Fact]
    public async Task Another_request_under_the_key_is_refused_inside_the_handler()
    {
        await using Server server = await StartAsync();
        await server.AskAsync("/handler");

        Answer other = await server.AskAsync("/handler", body: "three apples");

        (other.Status, other.Code, _runs).Should().Be((422, "idempotency_key_reused", 1));
        Last.IsRolledBack.Should().BeTrue();
    }

    [Theory]
    [InlineData(DuplicatePolicy.WaitAndReplay)]
    [InlineData(DuplicatePolicy.Reject)]
    public async Task A_concurrent_duplicate_waits_and_replays_or_is_refused(DuplicatePolicy policy)
    {
        TaskCompletionSource gate = Eventually.Gate();
        await using Server server = await StartAsync(gate.Task, o => o.DuplicatesInTransaction = policy);
        Task<Answer> first = server.AskAsync("/waiting");
        Eventually.BeTrue(() => Volatile.Read(ref _runs) == 1, "the first runs");

        Task<Answer> second = server.AskAsync("/waiting");
        Eventually.BeTrue(() => server.Store.Calls(Verb.Claim) == 2, "the second asks");
        if (policy == DuplicatePolicy.Reject)
        {
            (await second.Soon()).Code.Should().Be("idempotency_key_in_use");
        }

        gate.SetResult();
        Answer ran = await first.Soon();
        ran.Body.Should().Be("\"order 1\"");
        (await second.Soon()).IsReplay.Should().Be(policy == DuplicatePolicy.WaitAndReplay);
        _runs.Should().Be(1);
    }

    [Theory]
    [InlineData("/status/500", 500)]
    [InlineData("/status/409", 409)]
    [InlineData("/throws", 500)]
    public async Task A_failure_is_rolled_back_before_it_is_answered_and_the_next_runs_at_once(string path, int status)
    {
        await using Server server = await StartAsync();

        Answer first = await server.AskAsync(path);
        (bool, bool, bool) ended = (Last.IsCommitted, Last.IsRolledBack, Last.IsDisposed);
        Answer second = await server.AskAsync(path);

        (first.Status, second.Status, second.IsReplay).Should().Be((status, status, false));
        ended.Should().Be((false, true, true));
        _runs.Should().Be(2);
    }

    [Fact]
    public async Task A_request_that_is_turned_down_before_the_transaction_is_answered_and_not_recorded()
    {
        await using Server server = await StartAsync();

        Answer first = await server.AskAsync("/invalid");
        Answer second = await server.AskAsync("/invalid");

        (first.Status, second.Status, second.IsReplay).Should().Be((400, 400, false));
        server.Store.AllCalls.Should().Be(0);
    }

    [Fact]
    public async Task A_handler_that_succeeds_without_its_transaction_fails_and_is_told_why()
    {
        await using Server server = await StartAsync();

        Answer answer = await server.AskAsync("/forgets");

        answer.Status.Should().Be(500);
        server.Errors.Should().ContainSingle().Which.Should().Contain("BeginTransactionAsync(connection)");
    }

    [Theory]
    [InlineData("/large")]
    [InlineData("/streams")]
    public async Task A_large_response_and_a_stream_are_spooled_until_the_commit(string path)
    {
        TaskCompletionSource gate = Eventually.Gate();
        await using Server server = await StartAsync();
        server.Store.Before = (verb, _) => verb == Verb.CompleteAndCommit ? gate.Task : Task.CompletedTask;

        Task<HttpResponseMessage> first = server.PostAsync(path);
        Eventually.BeTrue(() => server.Store.Calls(Verb.CompleteAndCommit) == 1, "it commits");
        bool early = await Task.WhenAny(first, Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System, CancellationToken.None)) == first;
        gate.SetResult();
        Answer answer = await Answer.OfAsync(await first.Soon());
        Answer repeat = await server.AskAsync(path);

        early.Should().BeFalse();
        answer.Bytes.Should().Equal(Enumerable.Range(0, 300_000).Select(i => (byte)i));
        (repeat.Status, repeat.Code).Should().Be((200, "idempotency_response_not_kept"));
        _runs.Should().Be(1);
    }

    [Fact]
    public async Task A_small_stream_is_held_and_replayed()
    {
        await using Server server = await StartAsync();

        Answer first = await server.AskAsync("/events");
        Answer second = await server.AskAsync("/events");

        first.Body.Should().Be("data: 1\n\n");
        second.ShouldBeReplayOf(first, "X-Ran");
    }

    [Fact]
    public async Task A_commit_that_fails_is_answered_503_with_nothing_of_the_response()
    {
        await using Server server = await StartAsync();
        server.Store.Fail(Verb.CompleteAndCommit);

        Answer answer = await server.AskAsync("/handler");

        (answer.Status, answer.Code).Should().Be((503, "idempotency_store_down"));
        answer.Headers.Should().NotContainKey("Location");
        Last.IsRolledBack.Should().BeTrue();
    }

    [Fact]
    public async Task A_database_that_is_down_is_answered_503_and_nothing_runs()
    {
        await using Server server = await StartAsync();
        server.Store.Fail(Verb.BeginTransaction);

        Answer answer = await server.AskAsync("/handler");

        (answer.Status, answer.Code, _runs).Should().Be((503, "idempotency_store_down", 0));
    }

    [Fact]
    public async Task Lease_mode_with_a_transaction_commits_at_the_end_and_not_in_the_middle_of_a_large_response()
    {
        await using Server server = await StartAsync();

        Answer answer = await server.AskAsync("/lease-then-transaction");

        (answer.Status, answer.Bytes.Length).Should().Be((200, 200_000));
        Last.IsCommitted.Should().BeTrue();
        server.Store.Calls(Verb.CompleteAndCommit).Should().Be(1);
    }

    [Theory]
    [InlineData("/handled")]
    [InlineData("/handled/in-lease")]
    public async Task What_an_exception_handler_inside_answers_commits_nothing_of_what_threw(string path)
    {
        await using Server server = await StartAsync();

        Answer first = await server.AskAsync(path);
        (bool, bool) ended = (Last.IsCommitted, Last.IsRolledBack);
        Answer second = await server.AskAsync(path);

        (first.Status, first.Body, second.IsReplay).Should().Be((400, "handled by somebody", false));
        ended.Should().Be((false, true));
        second.Status.Should().Be(path == "/handled" ? 400 : 409);
    }

    [Fact]
    public async Task An_optional_key_in_transaction_mode_is_refused_when_the_endpoint_is_mapped()
    {
        Func<Task> map = () => Server.StartAsync(app => app.MapPost("/", () => "").RequireIdempotency("orders", IdempotencyMode.Transaction, keyRequired: false));

        await map.Should().ThrowAsync<ArgumentException>().WithMessage("*must be required*");
    }

    private async Task<DbTransaction> BeginAsync(HttpContext context)
    {
        var connection = new TestConnection();
        lock (_connections)
        {
            _connections.Add(connection);
        }

        context.Response.RegisterForDisposeAsync(connection);
        DbTransaction transaction = await context.GetIdempotentOperation().BeginTransactionAsync(connection);
        context.Response.Headers["X-Ran"] = "yes";
        return transaction;
    }

    private async Task<IResult> PlaceAsync(HttpContext context)
    {
        await BeginAsync(context);
        return Results.Created("/orders/1", $"order {Interlocked.Increment(ref _runs)}");
    }

    private async Task<IResult> FailAsync(HttpContext context)
    {
        await PlaceAsync(context);
        throw new IOException("after the effect");
    }

    private Task<Server> StartAsync(Task? gate = null, Action<IdempotencyOptions>? executor = null) => Server.StartAsync(
        app =>
        {
            app.UseWhen(context => context.Request.Path == "/exception-handler", branch => branch.UseExceptionHandler(error => error.Run(context =>
            {
                context.Response.StatusCode = 503;
                context.Response.Headers["X-Handled"] = "yes";
                return context.Response.WriteAsync("handled by somebody");
            })));
            app.UseWhen(context => context.Request.Path.StartsWithSegments("/handled"), branch => branch.UseExceptionHandler(new ExceptionHandlerOptions
            {
                ExceptionHandler = context => context.Response.WriteAsync("handled by somebody"),
                StatusCodeSelector = _ => 400,
            }));
            app.UseRouting();
            var group = app.MapGroup("").RequireIdempotency("orders", IdempotencyMode.Transaction);
            group.MapPost("/handler", (Delegate)PlaceAsync);
            group.MapPost("/exception-handler", (Delegate)PlaceAsync);
            group.MapPost("/filtered", (Delegate)PlaceAsync).AddEndpointFilter(async (invocation, next) =>
            {
                try
                {
                    return await next(invocation);
                }
                catch (Exception)
                {
                    return Results.Problem("caught by a filter");
                }
            });
            group.MapPost("/swallows", async (HttpContext context) =>
            {
                try
                {
                    return await PlaceAsync(context);
                }
                catch (IdempotencyException)
                {
                    return Results.Ok("swallowed");
                }
            });
            group.MapPost("/waiting", async (HttpContext context) =>
            {
                IResult result = await PlaceAsync(context);
                await gate!;
                return result;
            });
            group.MapPost("/status/{status:int}", async (HttpContext context, int status) =>
            {
                await PlaceAsync(context);
                return Results.StatusCode(status);
            });
            group.MapPost("/throws", (Delegate)FailAsync);
            group.MapPost("/handled", (Delegate)FailAsync);
            app.MapPost("/handled/in-lease", (Delegate)FailAsync).RequireIdempotency("orders");
            group.MapPost("/invalid", () => Results.BadRequest());
            group.MapPost("/forgets", () => "done");
            group.MapPost("/large", async (HttpContext context) =>
            {
                await PlaceAsync(context);
                await WriteAsync(context);
            });
            group.MapPost("/streams", async (HttpContext context) =>
            {
                context.Response.ContentType = "text/event-stream";
                await PlaceAsync(context);
                await context.Response.StartAsync();
                await WriteAsync(context);
            });
            group.MapPost("/events", async (HttpContext context) =>
            {
                context.Response.ContentType = "text/event-stream";
                await PlaceAsync(context);
                await context.Response.Body.WriteAsync("data: 1\n\n"u8.ToArray());
            });
            app.MapPost("/lease-then-transaction", async (HttpContext context) =>
            {
                await BeginAsync(context);
                await context.Response.Body.WriteAsync(new byte[100_000]);
                Last.IsCommitted.Should().BeFalse();
                await context.Response.Body.WriteAsync(new byte[100_000]);
            }).RequireIdempotency("orders");
            app.MapControllers();
        },
        setup =>
        {
            setup.Executor = executor;
            setup.Outside = app => app.UseRouting();
            setup.Services = services =>
            {
                services.AddSingleton<Func<HttpContext, Task<IResult>>>(PlaceAsync);
                Controllers.Add(services);
            };
        });

    private static async Task WriteAsync(HttpContext context)
    {
        byte[] body = [.. Enumerable.Range(0, 300_000).Select(i => (byte)i)];
        for (int i = 0; i < body.Length; i += 50_000)
        {
            await context.Response.BodyWriter.WriteAsync(body.AsMemory(i, 50_000));
            await context.Response.Body.FlushAsync();
        }
    }
}

/// <summary>Turns every exception into an answer of its own.</summary>
[AttributeUsage(AttributeTargets.Class)]
public sealed class CatchesAllAttribute : ExceptionFilterAttribute
{
    public override void OnException(ExceptionContext context) => context.Result = new ObjectResult("caught by a filter") { StatusCode = 500 };
}

[ApiController]
[CatchesAll]
[Route("/controller")]
[Idempotent("orders", Mode = IdempotencyMode.Transaction)]
public sealed class TransactionController(Func<HttpContext, Task<IResult>> place) : ControllerBase
{
    [HttpPost]
    [Consumes("text/plain")]
    public async Task<ActionResult> Post()
    {
        await place(HttpContext);
        return Created("/orders/1", "order 1");
    }
}
