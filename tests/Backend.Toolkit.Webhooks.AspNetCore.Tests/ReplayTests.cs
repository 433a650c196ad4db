using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Webhooks.AspNetCore.Tests;

/// <summary>A message is handled once: reserved before the handler, committed after 2xx, released after anything else.</summary>
public sealed class ReplayTests
{
    [Theory]
    [InlineData("orders", HttpProtocols.Http1)]
    [InlineData("stripe", HttpProtocols.Http1)]
    [InlineData("github", HttpProtocols.Http1)]
    [InlineData("slack", HttpProtocols.Http2)]
    [InlineData("shopify", HttpProtocols.Http2)]
    public async Task A_message_that_was_handled_is_answered_200_and_does_not_run_again(string verifier, HttpProtocols protocols)
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => Results.Json(++runs, statusCode: 202)).VerifyWebhook(verifier), setup => setup.Protocols = protocols);
        byte[] body = "two apples"u8.ToArray();
        Dictionary<string, string> headers = server.Sign(body, verifier);

        Answer first = await server.AskAsync(server.Request("/", body, headers));
        Answer second = await server.AskAsync(server.Request("/", body, headers));

        (first.Status, first.Body, first.Headers["Content-Length"]).Should().Be((202, "1", "1"), string.Join(';', server.Errors));
        (second.Status, second.Body, runs).Should().Be((200, "", 1));
    }

    [Fact]
    public async Task While_a_message_is_being_handled_its_repeat_is_answered_409_with_Retry_After_and_200_afterwards()
    {
        int runs = 0;
        TaskCompletionSource began = Eventually.Gate(), gate = Eventually.Gate();
        await using Server server = await Server.StartAsync(app => app.MapPost("/", async (CancellationToken token) =>
        {
            runs++;
            began.SetResult();
            await gate.Task.WaitAsync(token);
            return "ran";
        }).VerifyWebhook("orders"));

        Task<Answer> first = server.SendAsync("/");
        await began.Task.Soon();
        server.Time.Advance(TimeSpan.FromSeconds(100));
        Answer second = await server.SendAsync("/");
        gate.SetResult();
        Answer ended = await first;
        Answer third = await server.SendAsync("/");

        (second.Status, second.Code, second.RetryAfter).Should().Be((409, "webhook_in_progress", 200));
        (ended.Body, third.Status, runs).Should().Be(("ran", 200, 1));
    }

    [Theory]
    [InlineData(HttpProtocols.Http1)]
    [InlineData(HttpProtocols.Http2)]
    public async Task Of_64_copies_at_once_one_runs_and_no_other_is_answered_2xx_before_it_has_ended(HttpProtocols protocols)
    {
        int runs = 0;
        TaskCompletionSource gate = Eventually.Gate();
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", async () =>
            {
                Interlocked.Increment(ref runs);
                await gate.Task;
                return "ran";
            }).VerifyWebhook("orders"),
            setup => setup.Protocols = protocols);
        byte[] body = "two apples"u8.ToArray();

        Task<Answer>[] copies = [.. Enumerable.Range(0, 64).Select(_ => server.AskAsync(server.Request("/", body, server.Sign(body))))];
        Eventually.BeTrue(() => copies.Count(copy => copy.IsCompleted) == 63, "all but one are refused");
        gate.SetResult();
        Answer[] answers = await Task.WhenAll(copies);

        (runs, answers.Count(answer => (answer.Status, answer.Body) == (200, "ran")), answers.Count(answer => answer is { Status: 409, RetryAfter: 300 })).Should().Be((1, 1, 63));
    }

    [Theory]
    [InlineData("throws", 500)]
    [InlineData("500", 500)]
    [InlineData("400", 400)]
    [InlineData("302", 302)]
    public async Task A_message_that_was_not_handled_is_released_and_runs_again(string how, int status)
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", async (HttpContext context) =>
        {
            if (++runs > 1)
            {
                return Results.Text("ran");
            }

            if (how == "throws")
            {
                await context.Response.WriteAsync("half of an answer");
                throw new InvalidOperationException("bug");
            }

            return Results.StatusCode(int.Parse(how, System.Globalization.CultureInfo.InvariantCulture));
        }).VerifyWebhook("orders"));

        Answer failed = await server.SendAsync("/");
        Answer next = await server.SendAsync("/");
        Answer last = await server.SendAsync("/");

        (failed.Status, failed.Body).Should().Be((status, ""), "what was written is taken back");
        (next.Body, last.Status, runs).Should().Be(("ran", 200, 2));
    }

    [Fact]
    public async Task No_byte_of_an_answer_leaves_before_the_message_is_committed()
    {
        HttpContext? context = null;
        bool? hasStarted = null;
        await using Server server = await StartAsync(
            () =>
            {
                hasStarted = context!.Response.HasStarted;
                return ValueTask.FromResult(true);
            },
            app => app.Use((request, next) => next(context = request)));

        Answer answer = await server.SendAsync("/");

        (answer.Body, hasStarted).Should().Be(("ran", false));
    }

    [Fact]
    public async Task A_commit_that_fails_does_not_have_the_sender_try_again_and_is_told()
    {
        await using Server server = await StartAsync(() => throw new TimeoutException("down"));

        Answer answer = await server.SendAsync("/");

        (answer.Status, answer.Body).Should().Be((200, "ran"));
        server.Said.Should().ContainSingle().Which.Should().StartWith("Error: Webhook 'orders': the message was handled, but the replay guard could not commit it");
    }

    [Fact]
    public async Task A_handler_that_outlives_its_lease_is_told_of()
    {
        await using Server server = await StartAsync(() => ValueTask.FromResult(false));

        Answer answer = await server.SendAsync("/");

        answer.Status.Should().Be(200);
        server.Said.Should().ContainSingle().Which.Should().StartWith("Warning: Webhook 'orders': the handler took longer than the guard's lease");
    }

    [Fact]
    public async Task A_store_that_is_down_means_503_and_nothing_is_handled()
    {
        int runs = 0;
        var store = new WebhookReplayStore
        {
            Reserve = (_, _) => throw new TimeoutException("down"),
            Commit = (_, _, _, _) => ValueTask.FromResult(true),
            Release = (_, _, _) => ValueTask.FromResult(true),
        };
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => $"{++runs}").VerifyWebhook("orders"), setup => setup.Services = services => services.AddWebhookReplayGuard("orders", o => o.Store = store));

        Answer answer = await server.SendAsync("/");

        (answer.Status, answer.Code, answer.RetryAfter, runs).Should().Be((503, "webhooks_unavailable", 5, 0));
        server.Said.Should().ContainSingle().Which.Should().StartWith("Error: Webhook 'orders': the replay guard could not reserve");
    }

    [Fact]
    public async Task A_store_that_hangs_means_503_and_what_it_reserves_after_that_is_released()
    {
        int runs = 0, released = 0;
        bool mayBeEnded = true;
        TaskCompletionSource reserving = Eventually.Gate(), gate = Eventually.Gate();
        var store = new WebhookReplayStore
        {
            Reserve = async (_, token) =>
            {
                mayBeEnded = token.CanBeCanceled;
                reserving.TrySetResult();
                await gate.Task;
                return new WebhookReplayAnswer(WebhookReservationStatus.Reserved, 17);
            },
            Commit = (_, _, _, _) => ValueTask.FromResult(true),
            Release = (_, fence, _) => ValueTask.FromResult(fence == Interlocked.Add(ref released, 17)),
        };
        await using Server server = await StartAsync(store, () => $"{++runs}", o => o.StoreTimeout = TimeSpan.FromSeconds(7));

        Task<Answer> asking = server.SendAsync("/");
        await reserving.Task.Soon();
        Eventually.BeTrue(() => Passes(server, asking, TimeSpan.FromSeconds(7)), "it is not waited for");
        Answer answer = await asking;
        int early = Volatile.Read(ref released);
        gate.SetResult();
        Eventually.BeTrue(() => Volatile.Read(ref released) == 17, "nobody else would");

        (answer.Status, answer.Code, answer.RetryAfter, runs, early, mayBeEnded).Should().Be((503, "webhooks_unavailable", 5, 0, 0, false));
        server.Said.Should().ContainSingle().Which.Should().StartWith("Error: Webhook 'orders': the replay guard could not reserve");
    }

    [Theory]
    [InlineData(200, "the message was handled, but the replay guard could not commit it")]
    [InlineData(500, "the message was not handled, and the replay guard could not release it")]
    public async Task A_store_that_hangs_when_it_is_told_of_the_outcome_holds_the_answer_no_longer_than_that(int status, string said)
    {
        TaskCompletionSource telling = Eventually.Gate();
        var never = new TaskCompletionSource<bool>();
        ValueTask<bool> Hang()
        {
            telling.TrySetResult();
            return new ValueTask<bool>(never.Task);
        }

        var store = new WebhookReplayStore
        {
            Reserve = (_, _) => ValueTask.FromResult(new WebhookReplayAnswer(WebhookReservationStatus.Reserved, 1)),
            Commit = (_, _, _, _) => Hang(),
            Release = (_, _, _) => Hang(),
        };
        await using Server server = await StartAsync(store, () => Results.StatusCode(status), o => o.StoreTimeout = TimeSpan.FromSeconds(7));

        Task<Answer> asking = server.SendAsync("/");
        await telling.Task.Soon();
        Eventually.BeTrue(() => Passes(server, asking, TimeSpan.FromSeconds(7)), "it is not waited for");

        (await asking).Status.Should().Be(status);
        server.Said.Should().ContainSingle().Which.Should().StartWith($"Error: Webhook 'orders': {said}");
    }

    [Fact]
    public async Task A_guard_that_is_full_means_503_and_a_plain_guard_is_for_all()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.MapPost("/", () => $"{++runs}").VerifyWebhook("orders");
                app.MapPost("/github", () => $"{++runs}").VerifyWebhook("github");
            },
            setup => setup.Services = services => services.AddWebhookReplayGuard(o => o.MaxKeys = 1));

        Answer first = await server.SendAsync("/");
        Answer second = await server.SendAsync("/github", verifier: "github");
        Answer repeat = await server.SendAsync("/");

        (first.Status, second.Status, second.Code, second.RetryAfter, repeat.Status, runs).Should().Be((200, 503, "webhooks_unavailable", 5, 200, 1));
    }

    [Theory]
    [InlineData(HttpProtocols.Http1)]
    [InlineData(HttpProtocols.Http2)]
    public async Task A_sender_that_has_gone_ends_neither_the_handler_nor_the_commit(HttpProtocols protocols)
    {
        int runs = 0;
        bool cancelled = true;
        TaskCompletionSource began = Eventually.Gate(), gone = Eventually.Gate(), gate = Eventually.Gate(), ended = Eventually.Gate();
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", async (HttpContext context, CancellationToken token) =>
            {
                runs++;
                began.SetResult();
                await gate.Task;
                cancelled = token.IsCancellationRequested || context.RequestAborted.IsCancellationRequested;
                return new string('x', 10_000);
            }).VerifyWebhook("orders"),
            setup => (setup.Protocols, setup.Outside) = (protocols, app => app.Use(async (context, next) =>
            {
                context.RequestAborted.Register(() => gone.TrySetResult());
                await next(context);
                ended.TrySetResult();
            })));
        byte[] body = "two apples"u8.ToArray();
        using (var hangUp = new CancellationTokenSource())
        {
            Task<Answer> first = server.AskAsync(server.Request("/", body, server.Sign(body)), hangUp.Token);
            await began.Task.Soon();
            await hangUp.CancelAsync();
            await first.Invoking(task => task).Should().ThrowAsync<OperationCanceledException>();
        }

        await gone.Task.Soon();
        gate.SetResult();
        await ended.Task.Soon();
        Answer repeat = await server.SendAsync("/");

        (repeat.Status, repeat.Body, runs, cancelled).Should().Be((200, "", 1, false));
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [InlineData(50, 60)]
    [InlineData(60, 50)]
    public async Task A_handler_that_takes_too_long_is_cancelled_and_its_message_released(int maxRunTime, int lease)
    {
        int runs = 0;
        TaskCompletionSource began = Eventually.Gate();
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", async (CancellationToken token) =>
            {
                if (++runs == 1)
                {
                    began.SetResult();
                    await Eventually.UntilCancelled(token);
                }

                return "ran";
            }).VerifyWebhook("orders"),
            setup =>
            {
                setup.Receiving = o => o.MaxRunTime = TimeSpan.FromSeconds(maxRunTime);
                setup.Services = services => services.AddWebhookReplayGuard("orders", o => o.Lease = TimeSpan.FromSeconds(lease));
            });

        Task<Answer> first = server.SendAsync("/");
        await began.Task.Soon();
        server.Time.Advance(TimeSpan.FromSeconds(50));
        Answer ended = await first.Soon();
        Answer next = await server.SendAsync("/");

        (ended.Status, ended.RetryAfter, next.Body).Should().Be((503, 5, "ran"));
    }

    [Fact]
    public async Task An_attempt_that_is_signed_anew_is_told_by_the_id_in_the_verified_body()
    {
        int runs = 0;
        static async ValueTask<string?> EventId(VerifiedWebhook webhook)
        {
            using JsonDocument json = await JsonDocument.ParseAsync(webhook.OpenBody());
            return json.RootElement.TryGetProperty("id", out JsonElement id) ? id.GetString() : null;
        }

        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => $"{++runs}").VerifyWebhook("stripe", eventId: EventId));

        Answer first = await server.SendAsync("/", """{"id":"evt_1"}""", "stripe");
        server.Time.Advance(TimeSpan.FromHours(1));
        Answer again = await server.SendAsync("/", """{"id":"evt_1"}""", "stripe");
        Answer other = await server.SendAsync("/", """{"id":"evt_2"}""", "stripe");
        Answer without = await server.SendAsync("/", "{}", "stripe");
        Answer broken = await server.SendAsync("/", "no json", "stripe");

        (first.Body, again.Status, again.Body, other.Body, without.Body, broken.Status, runs).Should().Be(("1", 200, "", "2", "3", 500, 3));
    }

    [Fact]
    public async Task Without_a_guard_every_valid_request_runs()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => $"{++runs}").VerifyWebhook("orders", guardReplays: false));

        await server.SendAsync("/");
        Answer second = await server.SendAsync("/");

        second.Body.Should().Be("2");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_answer_that_is_longer_than_what_is_held_leaves_as_it_is_written(bool synchronous)
    {
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", async (HttpContext context) =>
            {
                for (int i = 0; i < 50; i++)
                {
                    if (synchronous)
                    {
                        context.Response.Body.Write(new byte[10_000]);
                    }
                    else
                    {
                        await context.Response.BodyWriter.WriteAsync(new byte[10_000]);
                    }
                }

                await context.Response.CompleteAsync();
            }).VerifyWebhook("orders"),
            setup => setup.Services = services => services.Configure<KestrelServerOptions>(kestrel => kestrel.AllowSynchronousIO = true));

        Answer answer = await server.SendAsync("/");
        Answer repeat = await server.SendAsync("/");

        (answer.Status, answer.Body.Length, repeat.Status, repeat.Body).Should().Be((200, 500_000, 200, ""));
    }

    [Fact]
    public async Task What_a_handler_has_left_behind_writes_into_no_other_answer()
    {
        TaskCompletionSource gate = Eventually.Gate();
        Task? left = null;
        async Task LeaveAsync(Stream response)
        {
            await gate.Task;
            await response.WriteAsync(new byte[100_000]);
        }

        await using Server server = await Server.StartAsync(app => app.MapPost("/", async (HttpContext context) =>
        {
            if (left is null)
            {
                left = LeaveAsync(context.Response.Body);
                await context.Response.WriteAsync("first");
                return;
            }

            gate.SetResult();
            await left;
            await context.Response.WriteAsync("second");
        }).VerifyWebhook("orders"));

        Answer first = await server.SendAsync("/");
        Answer second = await server.SendAsync("/", id: "msg_2");

        (first.Body, second.Body).Should().Be(("first", "second"));
    }

    [Fact]
    public async Task An_exception_handler_outside_and_inside_answers_and_the_message_is_released()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseExceptionHandler(inside => inside.Run(context => context.Response.WriteAsync("mended")));
                app.MapPost("/", (string? fail) => ++runs == 1 ? throw new InvalidOperationException("bug") : "ran").VerifyWebhook("orders");
            });

        Answer failed = await server.SendAsync("/");
        Answer next = await server.SendAsync("/");

        (failed.Status, failed.Body, next.Body).Should().Be((500, "mended", "ran"));
    }

    private static Task<Server> StartAsync(WebhookReplayStore store, Delegate handler, Action<WebhookReceivingOptions> receiving) => Server.StartAsync(
        app => app.MapPost("/", handler).VerifyWebhook("orders"),
        setup => (setup.Receiving, setup.Services) = (receiving, services => services.AddWebhookReplayGuard("orders", o => o.Store = store)));

    /// <summary>Again and again: the timer may be made a little after the store was asked.</summary>
    private static bool Passes(Server server, Task asking, TimeSpan time)
    {
        server.Time.Advance(time);
        return asking.Wait(TimeSpan.FromMilliseconds(50));
    }

    private static Task<Server> StartAsync(Func<ValueTask<bool>> commit, Action<WebApplication>? outside = null) => Server.StartAsync(
        app => app.MapPost("/", () => "ran").VerifyWebhook("orders"),
        setup => (setup.Outside, setup.Services) = (outside, services => services.AddWebhookReplayGuard("orders", o => o.Store = new WebhookReplayStore
        {
            Reserve = (_, _) => ValueTask.FromResult(new WebhookReplayAnswer(WebhookReservationStatus.Reserved, 1)),
            Commit = (_, _, _, _) => commit(),
            Release = (_, _, _) => ValueTask.FromResult(true),
        })));
}
