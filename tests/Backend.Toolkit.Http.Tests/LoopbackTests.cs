using System.Net;
using Backend.Toolkit.TimeoutBudgets;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace Backend.Toolkit.Http.Tests;

/// <summary>What only a real network shows.</summary>
public sealed class LoopbackTests
{
    [Fact]
    public async Task A_body_that_fails_half_way_on_the_first_attempt_is_sent_again_in_full()
    {
        byte[] sent = new byte[500_000];
        Random.Shared.NextBytes(sent);
        byte[]? received = null;
        await using Loopback loopback = await Loopback.StartAsync(async (number, context) =>
        {
            if (number == 1)
            {
                await context.Request.Body.ReadExactlyAsync(new byte[100_000]);
                context.Abort();
                return;
            }

            using var copy = new MemoryStream();
            await context.Request.Body.CopyToAsync(copy);
            received = copy.ToArray();
        });

        using HttpResponseMessage response = await loopback.SendAsync(method: HttpMethod.Put, content: new StreamContent(new MemoryStream(sent))).Soon();

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        received.Should().Equal(sent);
        loopback.Requests.Should().Be(2);
    }

    [Fact]
    public async Task A_connection_that_is_cut_before_its_answer_is_retried()
    {
        await using Loopback loopback = await Loopback.StartAsync((number, context) =>
        {
            if (number < 3)
            {
                context.Abort();
            }

            return Task.CompletedTask;
        });

        using HttpResponseMessage response = await loopback.SendAsync().Soon();

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        loopback.Requests.Should().Be(3);
    }

    [Fact]
    public async Task A_response_that_is_cut_half_way_fails_its_reader_and_is_not_sent_for_again()
    {
        var hasHeaders = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using Loopback loopback = await Loopback.StartAsync(async (_, context) =>
        {
            context.Response.ContentLength = 1_000;
            await context.Response.Body.WriteAsync(new byte[500]);
            await context.Response.Body.FlushAsync();
            await hasHeaders.Task;
            context.Abort();
        });

        using HttpResponseMessage response = await loopback.SendAsync().Soon();
        Task<byte[]> reading = response.Content.ReadAsByteArrayAsync();
        hasHeaders.SetResult();

        await FluentActions.Awaiting(() => reading.Soon()).Should().ThrowAsync<HttpRequestException>();
        loopback.Requests.Should().Be(1);
    }

    [Fact]
    public async Task A_redirect_loop_ends()
    {
        await using Loopback loopback = await Loopback.StartAsync((_, context) =>
        {
            context.Response.Redirect("/again");
            return Task.CompletedTask;
        });

        using HttpResponseMessage response = await loopback.SendAsync().Soon();

        response.StatusCode.Should().Be(HttpStatusCode.Redirect);
        loopback.Requests.Should().Be(51, "the client follows 50, and a redirect is not retried");
    }

    [Fact]
    public async Task After_a_redirect_the_next_attempt_begins_where_the_first_did_with_its_body()
    {
        var seen = new System.Collections.Concurrent.ConcurrentQueue<string>();
        await using Loopback loopback = await Loopback.StartAsync(async (number, context) =>
        {
            using var reader = new StreamReader(context.Request.Body);
            seen.Enqueue($"{context.Request.Method} {context.Request.Path} {await reader.ReadToEndAsync()} {context.Request.Headers["Retry-Attempt"]}".TrimEnd());
            if (context.Request.Path == "/start")
            {
                context.Response.Redirect("/landing");
            }
            else
            {
                context.Response.StatusCode = number < 3 ? 503 : 200;
            }
        }, o => o.AttachIdempotencyKey = true);

        using HttpResponseMessage response = await loopback.SendAsync("/start", HttpMethod.Post, new StringContent("body")).Soon();

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        seen.Should().Equal("POST /start body", "GET /landing", "POST /start body 2", "GET /landing  2");
    }

    [Fact]
    public async Task A_response_that_never_ends_ends_with_the_budget_and_its_connection_with_it()
    {
        await using Loopback loopback = await Loopback.StartAsync(Drip, o => o.Budget!.Total = TimeSpan.FromMilliseconds(400));

        using (HttpResponseMessage response = await loopback.SendAsync().Soon())
        {
            Func<Task> read = () => response.Content.CopyToAsync(Stream.Null).Soon();

            (await read.Should().ThrowAsync<TimeoutBudgetExceededException>()).Which.Name.Should().Be("shop");
        }

        Eventually.BeTrue(() => loopback.Open == 0, "the connection is closed");
    }

    [Fact]
    public async Task A_server_that_does_not_answer_is_left_when_the_budget_ends()
    {
        await using Loopback loopback = await Loopback.StartAsync(
            (_, context) => Server.Hang(context.RequestAborted), o => o.Budget!.Total = TimeSpan.FromMilliseconds(300));

        Func<Task> call = () => loopback.SendAsync().Soon();

        await call.Should().ThrowAsync<TimeoutBudgetExceededException>();
        Eventually.BeTrue(() => loopback.Open == 0, "the connection is closed");
    }

    [Fact]
    public async Task A_port_where_nobody_listens_is_a_connection_failure_with_three_attempts()
    {
        Loopback gone = await Loopback.StartAsync((_, _) => Task.CompletedTask);
        await gone.DisposeAsync();
        using var sockets = new SocketsHttpHandler();
        using var outbound = new Outbound(time: TimeProvider.System, primary: sockets);

        Func<Task> call = () => outbound.GetAsync(gone.Url.AbsoluteUri).Soon();

        (await call.Should().ThrowAsync<HttpRequestException>()).Which.HttpRequestError.Should().Be(HttpRequestError.ConnectionError);
        outbound.Logs.Texts.Should().ContainSingle().Which.Should().Contain("gave-up after 3 attempts");
    }

    [Fact]
    public async Task Over_http_2_a_stream_that_is_reset_is_retried_on_the_same_connection()
    {
        await using Loopback loopback = await Loopback.StartAsync(async (number, context) =>
        {
            using var reader = new StreamReader(context.Request.Body);
            string body = await reader.ReadToEndAsync();
            if (number == 1)
            {
                context.Abort();
                return;
            }

            await context.Response.WriteAsync($"{context.Request.Protocol} {body} {context.Request.Headers["Retry-Attempt"]} {context.Request.Headers["Timeout-Budget"].Count}");
        }, protocols: HttpProtocols.Http2);

        using HttpResponseMessage response = await loopback.SendAsync(method: HttpMethod.Put, content: new StringContent("body"), version: HttpVersion.Version20).Soon();

        (await response.Content.ReadAsStringAsync().Soon()).Should().Be("HTTP/2 body 2 1");
        loopback.Connections.Should().Be(1);
    }

    [Fact]
    public async Task Over_http_2_a_body_that_never_ends_ends_with_the_budget_and_the_connection_goes_on()
    {
        await using Loopback loopback = await Loopback.StartAsync(
            (number, context) => number == 1 ? Drip(number, context) : Task.CompletedTask, o => o.Budget!.Total = TimeSpan.FromMilliseconds(500), HttpProtocols.Http2);

        using HttpResponseMessage endless = await loopback.SendAsync(version: HttpVersion.Version20).Soon();
        await FluentActions.Awaiting(() => endless.Content.ReadAsByteArrayAsync().Soon()).Should().ThrowAsync<TimeoutBudgetExceededException>();
        using HttpResponseMessage next = await loopback.SendAsync(version: HttpVersion.Version20).Soon();

        next.StatusCode.Should().Be(HttpStatusCode.OK);
        loopback.Connections.Should().Be(1);
    }

    [Fact]
    public async Task A_client_disposed_in_flight_ends_its_calls()
    {
        await using Loopback loopback = await Loopback.StartAsync((_, context) => Server.Hang(context.RequestAborted));

        Task<HttpResponseMessage> call = loopback.SendAsync();
        Eventually.BeTrue(() => loopback.Requests == 1, "the request has arrived");
        loopback.DisposeClient();

        await FluentActions.Awaiting(() => call.Soon()).Should().ThrowAsync<OperationCanceledException>();
        Eventually.BeTrue(() => loopback.Open == 0, "the connection is closed");
    }

    [Fact]
    public async Task Five_hundred_troubled_calls_leave_no_socket_behind()
    {
        await using Loopback loopback = await Loopback.StartAsync(async (number, context) =>
        {
            context.Response.StatusCode = number % 2 == 0 ? 503 : 200;
            await context.Response.WriteAsync("body");
        }, o => (o.CircuitBreaker, o.RetryBudget) = (null, null));

        for (int call = 0; call < 500; call++)
        {
            using HttpResponseMessage response = await loopback.SendAsync().Soon();
            await response.Content.CopyToAsync(Stream.Null).Soon();
        }

        loopback.Requests.Should().BeGreaterThanOrEqualTo(998);
        loopback.Open.Should().BeLessThanOrEqualTo(4, "a superseded response gives its connection back, or ends it");
        loopback.DisposeClient();
        Eventually.BeTrue(() => loopback.Open == 0, "all connections are closed");
    }

    [Fact]
    public async Task Five_hundred_failed_calls_leave_no_response_behind()
    {
        using var outbound = new Outbound(o => (o.CircuitBreaker, o.RetryBudget) = (null, null));
        outbound.Server.Answers(503);

        for (int call = 0; call < 500; call++)
        {
            using HttpResponseMessage response = await outbound.GetAsync();
        }

        outbound.Server.Replies.Should().HaveCount(1_500).And.OnlyContain(reply => reply.IsDisposed);
    }

    private static async Task Drip(int number, HttpContext context)
    {
        byte[] bytes = new byte[1_000];
        while (!context.RequestAborted.IsCancellationRequested)
        {
            await context.Response.Body.WriteAsync(bytes, context.RequestAborted);
            await context.Response.Body.FlushAsync(context.RequestAborted);
        }
    }
}
