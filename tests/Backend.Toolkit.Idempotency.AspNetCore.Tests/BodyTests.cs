using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

/// <summary>The request body is read to its end before the claim, within a bound, and is there for the handler from its start.</summary>
public sealed class BodyTests
{
    [Theory]
    [InlineData(0, false)]
    [InlineData(1, false)]
    [InlineData(65_536, false)]
    [InlineData(65_537, false)]
    [InlineData(1_048_576, false)]
    [InlineData(65_537, true)]
    [InlineData(1_048_576, true)]
    public async Task The_handler_reads_all_of_the_body_as_stream_and_by_pipe(int size, bool chunked)
    {
        byte[] body = RandomNumberGenerator.GetBytes(size);
        await using Server server = await Server.StartAsync(app =>
        {
            app.MapPost("/stream", async (HttpContext context) =>
            {
                context.Request.EnableBuffering();
                return Results.Text(Convert.ToHexString(await SHA256.HashDataAsync(context.Request.Body)));
            }).RequireIdempotency("orders");
            app.MapPost("/pipe", async (HttpContext context) =>
            {
                return Results.Text(Convert.ToHexString(await SHA256.HashDataAsync(context.Request.BodyReader.AsStream())));
            }).RequireIdempotency("orders");
        });

        foreach (string path in (string[])["/stream", "/pipe"])
        {
            Answer answer = await server.AskAsync(path, key: path, change: Binary);
            Answer again = await server.AskAsync(path, key: path, change: Binary);

            (answer.Status, answer.Body).Should().Be((200, Convert.ToHexString(SHA256.HashData(body))), string.Join(';', server.Errors));
            again.ShouldBeReplayOf(answer);
        }

        void Binary(HttpRequestMessage request)
        {
            request.Content = new ByteArrayContent(body);
            request.Headers.TransferEncodingChunked = chunked;
        }
    }

    [Fact]
    public async Task Forms_and_bound_json_are_read_as_ever()
    {
        await using Server server = await Server.StartAsync(app =>
        {
            app.MapPost("/form", async (HttpContext context) =>
            {
                IFormCollection form = await context.Request.ReadFormAsync();
                return form["name"].ToString();
            }).RequireIdempotency("orders");
            app.MapPost("/json", (Order order) => order.Text).RequireIdempotency("orders");
        });

        Answer form = await server.AskAsync("/form", change: request => request.Content = new FormUrlEncodedContent([new("name", "ann")]));
        Answer json = await server.AskAsync("/json", body: """{"text":"two"}""", change: request => request.Content!.Headers.ContentType!.MediaType = "application/json");

        (form.Body, json.Body).Should().Be(("ann", "two"), string.Join(';', server.Errors));
    }

    [Fact]
    public async Task A_body_that_somebody_buffered_before_counts_and_a_form_that_was_consumed_fails_loudly()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", async (HttpContext context) =>
            {
                string text = await new StreamReader(context.Request.Body).ReadToEndAsync();
                return text;
            }).RequireIdempotency("orders"),
            setup => setup.Outside = app => app.Use(async (context, next) =>
            {
                if (context.Request.Headers.ContainsKey("X-Buffer"))
                {
                    context.Request.EnableBuffering();
                    await new StreamReader(context.Request.Body).ReadToEndAsync();
                }
                else
                {
                    await context.Request.ReadFormAsync();
                }

                await next(context);
            }));
        Action<HttpRequestMessage> buffered = request => request.Headers.Add("X-Buffer", "yes");

        Answer one = await server.AskAsync("/", change: buffered);
        Answer other = await server.AskAsync("/", body: "another", change: buffered);
        Answer form = await server.AskAsync("/", change: request => request.Content = new FormUrlEncodedContent([new("name", "ann")]));

        (one.Body, other.Status, form.Status).Should().Be(("two apples", 422, 500));
        server.Errors.Should().ContainSingle().Which.Should().Contain("Call app.UseIdempotency() before what reads the body");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_body_past_the_limit_is_refused_and_nothing_is_claimed(bool chunked)
    {
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => "ran").RequireIdempotency("orders"), setup => setup.Http = o => (o.MaxRequestBodyBytes, o.MaxBytesInMemory) = (1000, 100));

        Answer fits = await server.AskAsync("/", key: "key-2", body: new string('x', 1000), change: request => request.Headers.TransferEncodingChunked = chunked);
        Answer answer = await server.AskAsync("/", body: new string('x', 1001), change: request => request.Headers.TransferEncodingChunked = chunked);

        fits.Body.Should().Be("ran");
        (answer.Status, answer.Code).Should().Be((413, "request_too_large"));
        server.Store.Calls(Verb.Begin).Should().Be(1);
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [InlineData("Content-Length: 104857600\r\n\r\nonly this")]
    [InlineData("Transfer-Encoding: chunked\r\n\r\nffffff\r\n")]
    public async Task A_body_of_100_MB_is_refused_without_being_kept(string rest)
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => "ran").RequireIdempotency("orders"));
        using TcpClient client = await server.ConnectRawAsync();
        NetworkStream stream = client.GetStream();
        await stream.WriteAsync(Encoding.ASCII.GetBytes($"POST / HTTP/1.1\r\nHost: here\r\nIdempotency-Key: key-1\r\n{rest}"));
        if (rest.Contains("chunked", StringComparison.Ordinal))
        {
            await stream.WriteAsync(new byte[2_000_000]);
        }

        byte[] start = new byte[12];
        await stream.ReadExactlyAsync(start).AsTask().Soon();

        Encoding.ASCII.GetString(start).Should().Be("HTTP/1.1 413");
        server.Store.AllCalls.Should().Be(0);
    }

    [Fact]
    public async Task A_server_that_allows_less_than_the_options_is_told_of_as_413()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => "ran").RequireIdempotency("orders"),
            setup => setup.Services = services => services.Configure<KestrelServerOptions>(kestrel => kestrel.Limits.MaxRequestBodySize = 100));

        Answer answer = await server.AskAsync("/", body: new string('x', 1000), change: request => request.Headers.TransferEncodingChunked = true);

        (answer.Status, answer.Code).Should().Be((413, "request_too_large"));
        server.Store.AllCalls.Should().Be(0);
    }

    [Theory]
    [InlineData("Content-Length: 100\r\n\r\nhalf of it")]
    [InlineData("Transfer-Encoding: chunked\r\n\r\n64\r\nhalf of it")]
    [InlineData("Transfer-Encoding: chunked\r\n\r\na\r\nhalf of it\r\n")]
    public async Task A_body_that_stops_half_way_never_claims_and_the_whole_one_runs(string rest)
    {
        int runs = 0, left = 0;
        var statuses = new System.Collections.Concurrent.ConcurrentQueue<int>();
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => $"{++runs}").RequireIdempotency("orders"),
            setup => setup.Outside = app => app.Use(async (context, next) =>
            {
                await next(context);
                statuses.Enqueue(context.Response.StatusCode);
                Interlocked.Increment(ref left);
            }));
        using (TcpClient client = await server.ConnectRawAsync())
        {
            await client.GetStream().WriteAsync(Encoding.ASCII.GetBytes($"POST / HTTP/1.1\r\nHost: here\r\nIdempotency-Key: key-1\r\n{rest}"));
            client.Client.Shutdown(SocketShutdown.Send);
            Eventually.BeTrue(() => Volatile.Read(ref left) == 1, "the request has left without an exception");
        }

        Answer whole = await server.AskAsync("/");

        statuses.First().Should().BeInRange(400, 499);
        (whole.Body, whole.IsReplay, server.Store.Calls(Verb.Begin)).Should().Be(("1", false, 1));
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task Garbage_in_a_chunked_body_is_a_bad_request()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => "ran").RequireIdempotency("orders"));
        using TcpClient client = await server.ConnectRawAsync();
        NetworkStream stream = client.GetStream();
        await stream.WriteAsync("POST / HTTP/1.1\r\nHost: here\r\nIdempotency-Key: key-1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnothing\r\n"u8.ToArray());

        byte[] start = new byte[12];
        await stream.ReadExactlyAsync(start).AsTask().Soon();

        Encoding.ASCII.GetString(start).Should().Be("HTTP/1.1 400");
        server.Store.AllCalls.Should().Be(0);
    }

    [Theory]
    [InlineData("Idempotency-Key: a\r\nIdempotency-Key: b\r\n")]
    [InlineData("Idempotency-Key: a\r\nIdempotency-Key: a\r\n")]
    [InlineData("Idempotency-Key:\r\n")]
    [InlineData("Idempotency-Key: \"\"\r\n")]
    [InlineData("Idempotency-Key: a\u0001b\r\n")]
    [InlineData("Idempotency-Key: a\tb\r\n")]
    [InlineData("Idempotency-Key: grüße\r\n")]
    [InlineData("Idempotency-Key: \"a\";b=1\r\n")]
    [InlineData("10 kB")]
    public async Task A_bad_key_is_a_bad_request_and_nothing_is_claimed(string header)
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => "ran").RequireIdempotency("orders"));
        using TcpClient client = await server.ConnectRawAsync();
        NetworkStream stream = client.GetStream();
        string line = header == "10 kB" ? $"Idempotency-Key: {new string('k', 10_240)}\r\n" : header;
        await stream.WriteAsync(Encoding.UTF8.GetBytes($"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n{line}\r\n"));

        byte[] start = new byte[12];
        await stream.ReadExactlyAsync(start).AsTask().Soon();

        Encoding.ASCII.GetString(start).Should().Be("HTTP/1.1 400");
        server.Store.AllCalls.Should().Be(0);
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task A_connection_cannot_be_upgraded_under_a_key()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", (HttpContext context) => $"{context.Features.Get<IHttpUpgradeFeature>()?.IsUpgradableRequest}").RequireIdempotency("orders"));

        Answer answer = await server.AskAsync("/", change: request =>
        {
            request.Headers.Connection.Add("Upgrade");
            request.Headers.Upgrade.ParseAdd("own");
            request.Content = null;
        });

        (answer.Status, answer.Body).Should().Be((200, "False"));
    }
}
