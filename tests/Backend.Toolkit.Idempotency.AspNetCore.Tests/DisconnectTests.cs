using System.Text;
using Backend.Toolkit.TimeoutBudgets;
using Backend.Toolkit.TimeoutBudgets.AspNetCore;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

/// <summary>A client that leaves changes nothing: what runs goes on and is recorded, and the repeat replays. Only the server's own limits cancel.</summary>
public sealed class DisconnectTests
{
    public static TheoryData<HttpProtocols> Protocols { get; } = new(HttpProtocols.Http1, HttpProtocols.Http2);

    [Theory]
    [MemberData(nameof(Protocols))]
    public async Task A_client_that_leaves_while_its_body_is_read_claims_nothing(HttpProtocols protocols)
    {
        int runs = 0, inside = 0, ended = 0;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => $"{++runs}").RequireIdempotency("orders"),
            setup =>
            {
                setup.Protocols = protocols;
                setup.Outside = app => app.Use(async (context, next) =>
                {
                    Interlocked.Increment(ref inside);
                    await next(context);
                    Interlocked.Increment(ref ended);
                });
            });
        using (HttpClient client = server.Connect())
        using (var leave = new CancellationTokenSource())
        {
            Task<HttpResponseMessage> half = server.PostAsync("/", token: leave.Token, client: client, change: request => request.Content = new HalfContent(leave.Token));
            Eventually.BeTrue(() => Volatile.Read(ref inside) == 1, "the request is there");
            await leave.CancelAsync();
            await half.Invoking(async task => await task).Should().ThrowAsync<OperationCanceledException>();
        }

        Eventually.BeTrue(() => Volatile.Read(ref ended) == 1, "the request has ended without an exception");
        Answer whole = await server.AskAsync("/");

        (whole.Body, server.Store.Calls(Verb.Begin)).Should().Be(("1", 1));
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [MemberData(nameof(Protocols))]
    public async Task A_client_that_leaves_during_the_claim_finds_its_outcome_later(HttpProtocols protocols)
    {
        TaskCompletionSource gate = Eventually.Gate();
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => $"{++runs}").RequireIdempotency("orders"), setup => setup.Protocols = protocols);
        server.Store.Before = (verb, _) => verb == Verb.Begin ? gate.Task : Task.CompletedTask;

        await LeaveAsync(server, () => server.Store.Calls(Verb.Begin) == 1);
        server.Store.Work();
        gate.SetResult();
        Eventually.BeTrue(() => server.Store.Calls(Verb.Complete) == 1, "the outcome is being recorded");
        Answer repeat = await UntilAnsweredAsync(server);

        (repeat.Body, repeat.IsReplay, runs).Should().Be(("1", true, 1));
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [MemberData(nameof(Protocols))]
    public async Task A_client_that_leaves_while_the_handler_runs_finds_its_outcome_later(HttpProtocols protocols)
    {
        TaskCompletionSource gate = Eventually.Gate(), left = Eventually.Gate();
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", async (HttpContext context, CancellationToken token) =>
            {
                Interlocked.Increment(ref runs);
                await gate.Task;
                token.ThrowIfCancellationRequested();
                context.RequestAborted.ThrowIfCancellationRequested();
                return "done";
            }).RequireIdempotency("orders"),
            setup =>
            {
                setup.Protocols = protocols;
                setup.Outside = app => app.Use((context, next) =>
                {
                    context.RequestAborted.Register(() => left.TrySetResult());
                    return next(context);
                });
            });

        await LeaveAsync(server, () => Volatile.Read(ref runs) == 1);
        await left.Task.Soon();
        gate.SetResult();
        Eventually.BeTrue(() => server.Store.Calls(Verb.Complete) == 1, "the outcome is being recorded");
        Answer repeat = await UntilAnsweredAsync(server);

        (repeat.Body, repeat.IsReplay, runs).Should().Be(("done", true, 1));
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [MemberData(nameof(Protocols))]
    public async Task A_client_that_leaves_while_the_outcome_is_recorded_finds_it_later(HttpProtocols protocols)
    {
        TaskCompletionSource gate = Eventually.Gate();
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => $"{++runs}").RequireIdempotency("orders"), setup => setup.Protocols = protocols);
        server.Store.Before = (verb, _) => verb == Verb.Complete ? gate.Task : Task.CompletedTask;

        await LeaveAsync(server, () => server.Store.Calls(Verb.Complete) == 1);
        gate.SetResult();
        Answer repeat = await UntilAnsweredAsync(server);

        (repeat.Body, repeat.IsReplay, runs).Should().Be(("1", true, 1));
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [MemberData(nameof(Protocols))]
    public async Task A_client_that_leaves_while_a_large_response_is_written_changes_nothing(HttpProtocols protocols)
    {
        int runs = 0, ended = 0;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", async (HttpContext context) =>
            {
                runs++;
                for (int i = 0; i < 200; i++)
                {
                    await context.Response.Body.WriteAsync(new byte[100_000], context.RequestAborted);
                }

                Interlocked.Increment(ref ended);
            }).RequireIdempotency("orders"),
            setup => setup.Protocols = protocols);
        using (HttpClient client = server.Connect())
        using (HttpResponseMessage response = await server.PostAsync("/", client: client))
        await using (Stream stream = await response.Content.ReadAsStreamAsync())
        {
            await stream.ReadExactlyAsync(new byte[1000]).AsTask().Soon();
        }

        Eventually.BeTrue(() => Volatile.Read(ref ended) == 1, "the handler has written to its end");
        Answer repeat = await server.AskAsync("/");

        (repeat.Status, repeat.Code, runs).Should().Be((200, "idempotency_response_not_kept", 1));
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [MemberData(nameof(Protocols))]
    public async Task Many_clients_that_leave_at_any_time_run_nothing_twice(HttpProtocols protocols)
    {
        var runs = new System.Collections.Concurrent.ConcurrentDictionary<string, int>();
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/{id}", async (string id) =>
            {
                runs.AddOrUpdate(id, 1, (_, before) => before + 1);
                await Task.Yield();
                return id;
            }).RequireIdempotency("orders"),
            setup => (setup.Protocols, setup.Executor) = (protocols, o => o.Duplicates = DuplicatePolicy.WaitAndReplay));

        await Parallel.ForEachAsync(Enumerable.Range(0, 100), new ParallelOptions { MaxDegreeOfParallelism = 8 }, async (i, _) =>
        {
            // Some leave before they have sent, some never.
            using var leave = new CancellationTokenSource(TimeSpan.FromMilliseconds(i % 20), TimeProvider.System);
            try
            {
                using HttpResponseMessage first = await server.PostAsync($"/{i}", key: $"key-{i}", token: leave.Token);
            }
            catch (OperationCanceledException)
            {
                // It has left.
            }

            Answer last = await server.AskAsync($"/{i}", key: $"key-{i}");
            (last.Status, last.Body).Should().Be((200, $"{i}"));
        });

        runs.Should().HaveCount(100).And.OnlyContain(run => run.Value == 1);
    }

    [Fact]
    public async Task Duplicates_whose_clients_have_left_while_they_waited_do_not_run()
    {
        int runs = 0;
        var go = new TaskCompletionSource();
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", async () =>
            {
                Interlocked.Increment(ref runs);
                await go.Task;
                return Results.StatusCode(429);
            }).RequireIdempotency("orders"),
            setup => setup.Executor = o => o.Duplicates = DuplicatePolicy.WaitAndReplay);
        Task<Answer> first = server.AskAsync("/");
        Eventually.BeTrue(() => Volatile.Read(ref runs) == 1, "it runs");
        using var leave = new CancellationTokenSource();
        Task[] duplicates = [.. Enumerable.Range(0, 20).Select(_ => server.PostAsync("/", token: leave.Token))];
        Eventually.BeTrue(() => server.Store.Waiting == 20, "they wait");

        await leave.CancelAsync();
        Eventually.BeTrue(() => server.Store.Waiting == 0, "they wait no longer");
        go.SetResult();

        (await first.Soon()).Status.Should().Be(429);
        await ((Func<Task>)(() => Task.WhenAll(duplicates))).Should().ThrowAsync<OperationCanceledException>();
        runs.Should().Be(1);
    }

    [Fact]
    public async Task A_handler_that_runs_too_long_is_cancelled_and_answered_503()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", async (HttpContext context) =>
            {
                Interlocked.Increment(ref runs);
                await Eventually.UntilCancelled(context.RequestAborted);
            }).RequireIdempotency("orders"),
            setup => setup.Http = o => o.MaxRunTime = TimeSpan.FromSeconds(5));
        Task<Answer> asked = server.AskAsync("/");
        Eventually.BeTrue(() => Volatile.Read(ref runs) == 1, "it runs");

        server.Time.Advance(TimeSpan.FromSeconds(5));
        Answer answer = await asked.Soon();

        (answer.Status, answer.Code).Should().Be((503, "request_out_of_time"));
        (await server.AskAsync("/")).Status.Should().Be(409, "the lease protects what it may have done");
    }

    [Fact]
    public async Task A_token_from_outside_that_is_cancelled_while_the_client_waits_cuts_no_answer()
    {
        CancellationTokenSource? timeout = null;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", (HttpContext context) => context.Response.Body.WriteAsync(new byte[10_000]).AsTask()).RequireIdempotency("orders"),
            setup => setup.Outside = app => app.Use(async (context, next) =>
            {
                // As UseRequestTimeouts does.
                using var linked = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted);
                timeout = linked;
                context.RequestAborted = linked.Token;
                await next(context);
            }));
        server.Store.Before = (verb, _) => verb == Verb.Begin ? timeout!.CancelAsync() : Task.CompletedTask;

        Answer first = await server.AskAsync("/");
        Answer second = await server.AskAsync("/");
        Answer other = await server.AskAsync("/", body: "three apples");

        first.Bytes.Should().HaveCount(10_000);
        second.ShouldBeReplayOf(first);
        (other.Status, other.Code).Should().Be((422, "idempotency_key_reused"));
    }

    [Fact]
    public async Task An_exception_handler_inside_does_not_tell_a_client_that_waits_that_it_has_gone()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseExceptionHandler(error => error.Run(context => context.Response.WriteAsync("handled")));
                app.MapPost("/", async (HttpContext context) =>
                {
                    Interlocked.Increment(ref runs);
                    await Eventually.UntilCancelled(context.RequestAborted);
                }).RequireIdempotency("orders");
            },
            setup => setup.Http = o => o.MaxRunTime = TimeSpan.FromSeconds(5));
        Task<Answer> asked = server.AskAsync("/");
        Eventually.BeTrue(() => Volatile.Read(ref runs) == 1, "it runs");

        server.Time.Advance(TimeSpan.FromSeconds(5));
        Answer answer = await asked.Soon();

        (answer.Status, answer.Code).Should().Be((503, "request_out_of_time"));
    }

    [Fact]
    public async Task What_is_left_of_the_servers_budget_bounds_the_run_also_when_it_is_nothing()
    {
        TimeSpan? left = TimeSpan.FromSeconds(2);
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", async (HttpContext context) =>
            {
                Interlocked.Increment(ref runs);
                await Eventually.UntilCancelled(context.RequestAborted);
            }).RequireIdempotency("orders"),
            setup => setup.Http = o => o.TimeLeft = _ => left ?? throw new IOException("no budget"));
        Task<Answer> asked = server.AskAsync("/");
        Eventually.BeTrue(() => Volatile.Read(ref runs) == 1, "it runs");
        server.Time.Advance(TimeSpan.FromSeconds(2));
        Answer two = await asked.Soon();
        left = TimeSpan.FromSeconds(-1);

        Answer none = await server.AskAsync("/", key: "key-2").Soon();
        left = null;
        Task<Answer> unknown = server.AskAsync("/", key: "key-3");
        Eventually.BeTrue(() => Volatile.Read(ref runs) == 3, "it runs under MaxRunTime");
        for (int i = 0; i < 60; i++)
        {
            // As the heartbeat keeps the lease, too.
            server.Time.Advance(TimeSpan.FromSeconds(5));
        }

        (two.Code, none.Code, (await unknown.Soon()).Code).Should().Be(("request_out_of_time", "request_out_of_time", "request_out_of_time"));
        server.Errors.Should().ContainSingle().Which.Should().Contain("TimeLeft threw");
    }

    [Fact]
    public async Task A_lost_lease_cancels_the_handler()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", async (HttpContext context) =>
        {
            Interlocked.Increment(ref runs);
            await Eventually.UntilCancelled(context.RequestAborted);
        }).RequireIdempotency("orders"));
        server.Store.Fail(Verb.Renew);
        Task<Answer> asked = server.AskAsync("/");
        Eventually.BeTrue(() => Volatile.Read(ref runs) == 1, "it runs");

        server.Time.Advance(TimeSpan.FromSeconds(31));
        Answer answer = await asked.Soon();

        (answer.Status, answer.Code).Should().Be((409, "idempotency_key_in_use"));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Timeout_budgets_cancel_the_handler_and_the_client_does_not(bool inside)
    {
        TaskCompletionSource gate = Eventually.Gate(), left = Eventually.Gate();
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app =>
            {
                if (inside)
                {
                    app.UseTimeoutBudgets();
                }

                app.MapPost("/late", async (HttpContext context) =>
                {
                    Interlocked.Increment(ref runs);
                    await Eventually.UntilCancelled(context.RequestAborted);
                }).RequireIdempotency("orders");
                app.MapPost("/left", async (HttpContext context) =>
                {
                    Interlocked.Increment(ref runs);
                    await gate.Task;
                    context.RequestAborted.ThrowIfCancellationRequested();
                    return "done";
                }).RequireIdempotency("orders");
            },
            setup =>
            {
                setup.Services = services => services.AddTimeoutBudgets(o => o.Maximum = TimeSpan.FromSeconds(3));
                setup.Http = o => o.TimeLeft = _ => TimeoutBudget.Current?.Remaining;
                setup.Outside = app =>
                {
                    app.Use((context, next) =>
                    {
                        context.RequestAborted.Register(() => left.TrySetResult());
                        return next(context);
                    });
                    if (!inside)
                    {
                        app.UseTimeoutBudgets();
                    }
                };
            });

        Task<HttpResponseMessage> late = server.PostAsync("/late");
        Eventually.BeTrue(() => Volatile.Read(ref runs) == 1, "it runs");
        server.Time.Advance(TimeSpan.FromSeconds(3));
        int status = (int)(await late.Soon()).StatusCode;
        await LeaveAsync(server, () => Volatile.Read(ref runs) == 2, "/left", "key-2");
        await left.Task.Soon();
        gate.SetResult();
        Eventually.BeTrue(() => server.Store.Calls(Verb.Complete) == 1, "the outcome is being recorded");
        Answer repeat = await UntilAnsweredAsync(server, "/left", "key-2");

        status.Should().Be(504);
        (repeat.Status, repeat.Body, repeat.IsReplay, runs).Should().Be((200, "done", true, 2));
    }

    private static async Task LeaveAsync(Server server, Func<bool> when, string path = "/", string key = "key-1")
    {
        using HttpClient client = server.Connect();
        using var leave = new CancellationTokenSource();
        Task<HttpResponseMessage> asked = server.PostAsync(path, key, token: leave.Token, client: client);
        Eventually.BeTrue(when, "the request is where it is to be left");
        await leave.CancelAsync();
        await asked.Invoking(async task => await task).Should().ThrowAsync<OperationCanceledException>();
    }

    /// <summary>It may be told for a moment that the first is still being recorded.</summary>
    private static async Task<Answer> UntilAnsweredAsync(Server server, string path = "/", string key = "key-1")
    {
        Answer answer = await server.AskAsync(path, key);
        for (int i = 0; i < 1000 && answer.Status == 409; i++)
        {
            answer = await server.AskAsync(path, key);
        }

        return answer;
    }

    /// <summary>Sends half of what it promises, then waits until it is cancelled.</summary>
    private sealed class HalfContent(CancellationToken leave) : HttpContent
    {
        protected override async Task SerializeToStreamAsync(Stream stream, System.Net.TransportContext? context)
        {
            await stream.WriteAsync(Encoding.UTF8.GetBytes("half"), leave);
            await stream.FlushAsync(leave);
            await Eventually.UntilCancelled(leave);
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 8;
            return true;
        }
    }
}
