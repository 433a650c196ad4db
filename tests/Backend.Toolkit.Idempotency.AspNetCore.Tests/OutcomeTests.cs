using System.Buffers;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Diagnostics;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

/// <summary>Which responses are recorded, which give the key back, and which leave it to its lease.</summary>
public sealed class OutcomeTests
{
    [Theory]
    [InlineData(200, true)]
    [InlineData(201, true)]
    [InlineData(302, true)]
    [InlineData(400, true)]
    [InlineData(404, true)]
    [InlineData(422, true)]
    [InlineData(401, false)]
    [InlineData(403, false)]
    [InlineData(408, false)]
    [InlineData(409, false)]
    [InlineData(425, false)]
    [InlineData(429, false)]
    public async Task A_response_is_stored_or_gives_the_key_back(int status, bool isStored)
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => Results.Text($"{++runs}", statusCode: status)).RequireIdempotency("orders"));

        Answer first = await server.AskAsync("/");
        Answer second = await server.AskAsync("/");

        (first.Status, first.Body).Should().Be((status, "1"));
        (second.Status, second.Body, second.IsReplay).Should().Be((status, isStored ? "1" : "2", isStored));
    }

    [Fact]
    public async Task An_empty_refusal_and_its_replay_get_the_body_that_others_write()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => Results.StatusCode(400)).RequireIdempotency("orders"), setup => setup.Outside = app => app.UseStatusCodePages());

        Answer first = await server.AskAsync("/");
        Answer second = await server.AskAsync("/");

        first.Body.Should().Contain("400");
        (second.Status, second.Body, second.IsReplay).Should().Be((400, first.Body, true));
    }

    [Theory]
    [InlineData("/500")]
    [InlineData("/503")]
    [InlineData("/499")]
    [InlineData("/throw")]
    public async Task A_failure_leaves_the_claim_to_its_lease(string path)
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/{status}", (string status) =>
        {
            runs++;
            return status == "throw" ? throw new IOException("no disk") : Results.StatusCode(int.Parse(status, System.Globalization.CultureInfo.InvariantCulture));
        }).RequireIdempotency("orders"));

        Answer first = await server.AskAsync(path);
        Answer second = await server.AskAsync(path);
        server.Time.Advance(TimeSpan.FromSeconds(30.5));
        Answer third = await server.AskAsync(path);

        (second.Status, second.Code, second.Headers.GetValueOrDefault("Retry-After")).Should().Be((409, "idempotency_key_in_use", "30"));
        third.Status.Should().Be(first.Status);
        runs.Should().Be(2);
    }

    [Fact]
    public async Task Retry_After_is_rounded_up()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => Results.StatusCode(500)).RequireIdempotency("orders"));
        await server.AskAsync("/");
        server.Time.Advance(TimeSpan.FromSeconds(28.9));

        Answer later = await server.AskAsync("/");
        server.Time.Advance(TimeSpan.FromSeconds(1));
        Answer last = await server.AskAsync("/");

        (later.Headers["Retry-After"], last.Headers["Retry-After"]).Should().Be(("2", "1"));
    }

    [Fact]
    public async Task Which_statuses_are_stored_and_which_are_given_back_can_be_said()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/{status:int}", (int status) => Results.Text($"{++runs}", statusCode: status)).RequireIdempotency("orders"),
            setup => setup.Http = o =>
            {
                o.StoredStatusCodes.Add(500);
                o.AbandonedStatusCodes.Add(404);
            });

        await server.AskAsync("/500");
        Answer stored = await server.AskAsync("/500");
        await server.AskAsync("/404", key: "key-2");
        Answer given = await server.AskAsync("/404", key: "key-2");

        (stored.Status, stored.Body, stored.IsReplay).Should().Be((500, "1", true));
        (given.Status, given.Body).Should().Be((404, "3"));
    }

    [Fact]
    public async Task A_handler_may_give_its_key_back_itself()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", async (HttpContext context) =>
        {
            runs++;
            await context.GetIdempotentOperation().AbandonAsync();
            return "nothing done";
        }).RequireIdempotency("orders"));

        await server.AskAsync("/");
        Answer second = await server.AskAsync("/");

        (second.Body, second.IsReplay, runs).Should().Be(("nothing done", false, 2));
    }

    [Fact]
    public async Task Phases_and_downstream_keys_are_there_for_the_handler_and_who_takes_over_goes_on()
    {
        var charges = new List<string>();
        bool fails = true;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", async (HttpContext context) =>
        {
            IdempotentOperation operation = context.GetIdempotentOperation();
            string charge = await operation.PhaseAsync("charge", _ =>
            {
                charges.Add(operation.DownstreamKey("charge"));
                return new ValueTask<string>($"charge {charges.Count}");
            }, TestJson.Default.String);
            return fails ? throw new IOException("after the charge") : charge;
        }).RequireIdempotency("orders"));
        await server.AskAsync("/");
        server.Time.Advance(TimeSpan.FromSeconds(31));
        fails = false;

        Answer second = await server.AskAsync("/");

        (second.Status, second.Body, charges.Count).Should().Be((200, "charge 1", 1));
    }

    [Fact]
    public async Task A_response_of_the_cap_is_replayed_and_one_byte_more_leaves_a_tombstone()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/{size:int}", (HttpContext context, int size) =>
            {
                runs++;
                context.Response.StatusCode = 201;
                return context.Response.Body.WriteAsync(new byte[size]).AsTask();
            }).RequireIdempotency("orders"),
            setup => setup.Executor = o => o.MaxOutcomeBytes = 1002);

        Answer fits = await server.AskAsync("/1000", key: "fits");
        Answer fitsAgain = await server.AskAsync("/1000", key: "fits");
        Answer headers = await server.AskAsync("/1001", key: "headers");
        Answer headersAgain = await server.AskAsync("/1001", key: "headers");
        Answer more = await server.AskAsync("/5000", key: "more");
        Answer moreAgain = await server.AskAsync("/5000", key: "more");

        (fitsAgain.Status, fitsAgain.Bytes.Length).Should().Be((201, 1000));
        (headers.Bytes.Length, more.Bytes.Length).Should().Be((1001, 5000));
        new[] { headersAgain, moreAgain }.Should().OnlyContain(answer => answer.Status == 201 && answer.IsReplay && answer.Code == "idempotency_response_not_kept");
        runs.Should().Be(3);
    }

    [Theory]
    [InlineData("text/event-stream", false)]
    [InlineData("text/plain", true)]
    public async Task A_stream_is_recorded_as_run_before_its_first_byte_leaves(string type, bool disable)
    {
        TaskCompletionSource gate = Eventually.Gate();
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", async (HttpContext context) =>
        {
            runs++;
            context.Response.ContentType = type;
            context.Response.OnStarting(() =>
            {
                context.Response.Headers["X-Started"] = "yes";
                return Task.CompletedTask;
            });
            if (disable)
            {
                context.Features.GetRequiredFeature<IHttpResponseBodyFeature>().DisableBuffering();
            }

            await context.Response.WriteAsync("data: 1\n\n");
            await context.Response.Body.FlushAsync();
            await gate.Task;
            context.Response.HasStarted.Should().BeTrue();
            await context.Response.WriteAsync("data: 2\n\n");
        }).RequireIdempotency("orders"));

        using HttpResponseMessage response = await server.PostAsync("/");
        await using Stream stream = await response.Content.ReadAsStreamAsync();
        byte[] first = new byte[9];
        await stream.ReadExactlyAsync(first).AsTask().Soon();
        int completed = server.Store.Calls(Verb.Complete);
        Answer repeat = await server.AskAsync("/");
        gate.SetResult();
        string rest = await new StreamReader(stream).ReadToEndAsync().Soon();

        (completed, runs).Should().Be((1, 1), "the first byte came after the record");
        response.Headers.GetValues("X-Started").Should().Equal("yes");
        (repeat.Status, repeat.Code, repeat.IsReplay).Should().Be((200, "idempotency_response_not_kept", true));
        rest.Should().Be("data: 2\n\n");
    }

    [Theory]
    [InlineData("/result")]
    [InlineData("/by-hand")]
    [InlineData("/by-writer")]
    public async Task Server_sent_events_leave_one_by_one_without_a_flush(string path)
    {
        TaskCompletionSource gate = Eventually.Gate();
        await using Server server = await Server.StartAsync(app =>
        {
            app.MapPost("/result", () => TypedResults.ServerSentEvents(EventsAsync())).RequireIdempotency("orders");
            app.MapPost("/by-hand", async (HttpContext context) =>
            {
                context.Response.ContentType = "text/event-stream";
                await foreach (string text in EventsAsync())
                {
                    await context.Response.Body.WriteAsync(Encoding.UTF8.GetBytes($"data: {text}\n\n"));
                }
            }).RequireIdempotency("orders");
            app.MapPost("/by-writer", async (HttpContext context) =>
            {
                context.Response.ContentType = "text/event-stream";
                await foreach (string text in EventsAsync())
                {
                    context.Response.BodyWriter.Write(Encoding.UTF8.GetBytes($"data: {text}\n\n"));
                    await context.Response.Body.FlushAsync();
                }
            }).RequireIdempotency("orders");
        });

        using HttpResponseMessage response = await server.PostAsync(path).Soon();
        await using Stream stream = await response.Content.ReadAsStreamAsync();
        byte[] first = new byte[11];
        await stream.ReadExactlyAsync(first).AsTask().Soon();
        int completed = server.Store.Calls(Verb.Complete);
        gate.SetResult();
        string rest = await new StreamReader(stream).ReadToEndAsync().Soon();

        Encoding.UTF8.GetString(first).Should().Be("data: one\n\n");
        (completed, rest).Should().Be((1, "data: two\n\n"));

        async IAsyncEnumerable<string> EventsAsync()
        {
            yield return "one";
            await gate.Task;
            yield return "two";
        }
    }

    [Fact]
    public async Task A_callback_that_fails_when_a_large_response_starts_is_no_success_also_when_the_handler_goes_on()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", async (HttpContext context) =>
        {
            context.Response.OnStarting(() => throw new IOException("not now"));
            await context.Response.Body.Invoking(body => body.WriteAsync(new byte[100_000]).AsTask()).Should().ThrowAsync<IOException>();
            context.Response.StatusCode = 201;
        }).RequireIdempotency("orders"));

        Answer first = await server.AskAsync("/");
        Answer second = await server.AskAsync("/");

        (first.Status, second.Status, server.Store.Calls(Verb.Complete)).Should().Be((500, 409, 0));
    }

    [Fact]
    public async Task What_a_callback_leaves_in_the_writer_is_part_of_the_response()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", (HttpContext context) => context.Response.OnStarting(() =>
        {
            context.Response.BodyWriter.Write("late"u8);
            return Task.CompletedTask;
        })).RequireIdempotency("orders"));

        Answer first = await server.AskAsync("/");
        Answer second = await server.AskAsync("/");

        first.Body.Should().Be("late");
        second.ShouldBeReplayOf(first);
    }

    [Fact]
    public async Task A_handler_that_answers_499_itself_is_not_out_of_time()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => Results.StatusCode(499)).RequireIdempotency("orders"));

        Answer first = await server.AskAsync("/");
        Answer second = await server.AskAsync("/");

        (first.Status, second.Status).Should().Be((499, 409));
    }

    [Fact]
    public async Task A_stream_that_fails_half_way_is_cut_and_never_looks_whole()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", async (HttpContext context) =>
        {
            await context.Response.Body.WriteAsync(new byte[100_000]);
            throw new IOException("half-way");
        }).RequireIdempotency("orders"));

        Func<Task> ask = () => server.AskAsync("/");

        await ask.Should().ThrowAsync<HttpRequestException>();
        server.Errors.Should().ContainSingle().Which.Should().Contain("half-way");
    }

    [Fact]
    public async Task Nothing_of_a_response_leaves_before_its_outcome_is_recorded()
    {
        TaskCompletionSource gate = Eventually.Gate();
        await using Server server = await Server.StartAsync(app => app.MapPost("/{size:int}", async (HttpContext context, int size) =>
        {
            await context.Response.BodyWriter.WriteAsync(new byte[size]);
            await context.Response.BodyWriter.FlushAsync();
        }).RequireIdempotency("orders"));
        server.Store.Before = (verb, _) => verb == Verb.Complete ? gate.Task : Task.CompletedTask;

        Task<HttpResponseMessage> small = server.PostAsync("/10", key: "small");
        Task<HttpResponseMessage> large = server.PostAsync("/100000", key: "large");
        Eventually.BeTrue(() => server.Store.Calls(Verb.Complete) == 2, "both are being recorded");
        Task first = await Task.WhenAny(small, large, Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System, CancellationToken.None));
        gate.SetResult();

        (first == small || first == large).Should().BeFalse();
        (await Answer.OfAsync(await small.Soon())).Bytes.Length.Should().Be(10);
        (await Answer.OfAsync(await large.Soon())).Bytes.Length.Should().Be(100_000);
    }

    [Fact]
    public async Task A_large_response_with_a_status_that_gives_back_or_leaves_does_so()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/{status:int}", async (HttpContext context, int status) =>
        {
            runs++;
            context.Response.StatusCode = status;
            await context.Response.Body.WriteAsync(new byte[100_000]);
        }).RequireIdempotency("orders"));

        Answer given = await server.AskAsync("/429");
        Answer again = await server.AskAsync("/429");
        Answer left = await server.AskAsync("/500", key: "key-2");
        Answer refused = await server.AskAsync("/500", key: "key-2");

        new[] { given, again }.Should().OnlyContain(answer => answer.Status == 429 && answer.Bytes.Length == 100_000);
        (left.Status, left.Bytes.Length, refused.Status).Should().Be((500, 100_000, 409));
        runs.Should().Be(3);
    }

    [Fact]
    public async Task What_is_written_synchronously_past_the_cap_is_held_and_sent()
    {
        byte[] body = [.. Enumerable.Range(0, 300_000).Select(i => (byte)i)];
        await using Server server = await Server.StartAsync(app => app.MapPost("/", (HttpContext context) =>
        {
            for (int i = 0; i < body.Length; i += 1000)
            {
                context.Response.Body.Write(body, i, 1000);
            }
        }).RequireIdempotency("orders"));

        Answer first = await server.AskAsync("/");
        Answer second = await server.AskAsync("/");

        first.Bytes.Should().Equal(body);
        second.Code.Should().Be("idempotency_response_not_kept");
    }

    [Fact]
    public async Task An_exception_handler_inside_takes_back_what_was_written_and_one_outside_answers()
    {
        static void Handle(IApplicationBuilder app) => app.UseExceptionHandler(error => error.Run(context =>
        {
            context.Features.Get<IExceptionHandlerFeature>()!.Error.Message.Should().Be("half-way");
            return context.Response.WriteAsync("sorry");
        }));
        static async Task Fail(HttpContext context)
        {
            context.Response.OnStarting(() =>
            {
                context.Response.Headers["X-Inner"] = "called";
                return Task.CompletedTask;
            });
            context.Response.Headers["X-Lost"] = "lost";
            await context.Response.WriteAsync("half of it");
            Encoding.UTF8.GetBytes("unflushed").CopyTo(context.Response.BodyWriter.GetMemory(9));
            context.Response.BodyWriter.Advance(9);
            throw new IOException("half-way");
        }

        await using Server inside = await Server.StartAsync(app =>
        {
            Handle(app);
            app.UseRouting();
            app.MapPost("/", Fail).RequireIdempotency("orders");
        }, setup => setup.Outside = app => app.UseRouting());
        await using Server outside = await Server.StartAsync(app => app.MapPost("/", Fail).RequireIdempotency("orders"), setup => setup.Outside = Handle);

        Answer one = await inside.AskAsync("/");
        Answer two = await outside.AskAsync("/");

        new[] { one, two }.Should().OnlyContain(answer => answer.Status == 500 && answer.Body == "sorry" && answer.Headers["X-Inner"] == "called" && !answer.Headers.ContainsKey("X-Lost"));
        (await inside.AskAsync("/")).Status.Should().Be(409);
        (await outside.AskAsync("/")).Status.Should().Be(409);
    }

    [Theory]
    [InlineData("/204")]
    [InlineData("/short")]
    [InlineData("/long")]
    public async Task What_a_server_would_not_send_is_not_recorded(string path)
    {
        await using Server server = await Server.StartAsync(app =>
        {
            RouteGroup(app).MapPost("/204", (HttpContext context) =>
            {
                context.Response.StatusCode = 204;
                return context.Response.WriteAsync("a body");
            });
            RouteGroup(app).MapPost("/short", (HttpContext context) =>
            {
                context.Response.ContentLength = 10;
                return context.Response.WriteAsync("short");
            });
            RouteGroup(app).MapPost("/long", (HttpContext context) =>
            {
                context.Response.ContentLength = 2;
                return context.Response.WriteAsync("long");
            });
        });

        Answer answer = await server.AskAsync(path);

        answer.Status.Should().Be(500);
        server.Store.Calls(Verb.Complete).Should().Be(0);
        server.Errors.Should().ContainSingle().Which.Should().Contain("bytes were written");
    }

    [Fact]
    public async Task An_outage_is_answered_503_or_runs_as_the_executor_says()
    {
        int runs = 0;
        await using Server required = await Server.StartAsync(app => app.MapPost("/", () => $"{++runs}").RequireIdempotency("orders"));
        await using Server optional = await Server.StartAsync(
            app => app.MapPost("/", (HttpContext context) => $"{context.GetIdempotentOperation().Status}").RequireIdempotency("orders"), setup => setup.Executor = o => o.StoreRequired = false);
        required.Store.Fail();
        optional.Store.Fail();

        Answer refused = await required.AskAsync("/");
        Answer ran = await optional.AskAsync("/");

        (refused.Status, refused.Code, runs).Should().Be((503, "idempotency_store_down", 0));
        (ran.Status, ran.Body).Should().Be((200, "Unprotected"));
        required.Errors.Should().ContainSingle("an outage is told once").Which.Should().Contain("does not answer");
    }

    [Theory]
    [InlineData("/small")]
    [InlineData("/large")]
    public async Task A_response_that_cannot_be_recorded_does_not_leave(string path)
    {
        await using Server server = await Server.StartAsync(app =>
        {
            RouteGroup(app).MapPost("/small", () => "secret");
            RouteGroup(app).MapPost("/large", async (HttpContext context) =>
            {
                context.Response.Headers["X-Own"] = "own";
                try
                {
                    await context.Response.Body.WriteAsync(new byte[100_000]);
                }
                catch (IdempotencyStoreException)
                {
                    await context.Response.WriteAsync("swallowed");
                }
            });
        });
        server.Store.Before = (verb, _) =>
        {
            // Recording is tried for as long as a lease.
            server.Time.Advance(verb == Verb.Complete ? TimeSpan.FromSeconds(60) : TimeSpan.Zero);
            return verb is Verb.Complete or Verb.Renew ? Task.FromException(new IdempotencyStoreException("down")) : Task.CompletedTask;
        };

        Answer answer = await server.AskAsync(path);

        (answer.Status, answer.Code).Should().Be((503, "idempotency_store_down"));
        answer.Headers.Should().NotContainKey("X-Own");
    }

    [Fact]
    public async Task A_run_that_was_taken_over_does_not_give_its_late_response()
    {
        TaskCompletionSource gate = Eventually.Gate();
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", async () =>
        {
            int run = Interlocked.Increment(ref runs);
            if (run == 1)
            {
                await gate.Task;
            }

            return $"{run}";
        }).RequireIdempotency("orders"));
        server.Store.Before = (verb, _) => verb == Verb.Renew ? Task.FromException(new IdempotencyStoreException("cut off")) : Task.CompletedTask;
        Task<Answer> first = server.AskAsync("/");
        Eventually.BeTrue(() => Volatile.Read(ref runs) == 1, "it runs");
        server.Time.Advance(TimeSpan.FromSeconds(31));

        Answer second = await server.AskAsync("/");
        gate.SetResult();
        Answer late = await first.Soon();

        second.Body.Should().Be("2");
        (late.Status, late.Code, late.Headers["Retry-After"]).Should().Be((409, "idempotency_key_in_use", "1"));
        (await server.AskAsync("/")).Body.Should().Be("2");
    }

    [Fact]
    public async Task Sixty_four_at_once_run_once()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", async () =>
        {
            Interlocked.Increment(ref runs);
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, CancellationToken.None);
            return "done";
        }).RequireIdempotency("orders"), setup => setup.Executor = o => o.Duplicates = DuplicatePolicy.WaitAndReplay);

        Answer[] answers = await Task.WhenAll(Enumerable.Range(0, 64).Select(_ => server.AskAsync("/")));

        answers.Should().OnlyContain(answer => answer.Status == 200 && answer.Body == "done");
        answers.Count(answer => !answer.IsReplay).Should().Be(1);
        runs.Should().Be(1);
    }

    private static Microsoft.AspNetCore.Routing.RouteGroupBuilder RouteGroup(WebApplication app) => app.MapGroup("").RequireIdempotency("orders");
}
