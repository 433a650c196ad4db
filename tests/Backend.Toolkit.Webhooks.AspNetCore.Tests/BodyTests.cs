using System.Buffers;
using System.IO.Compression;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Webhooks.AspNetCore.Tests;

/// <summary>The raw body is read once, verified, and is then there for the handler from its start.</summary>
public sealed class BodyTests
{
    [Theory]
    [InlineData(0, false, HttpProtocols.Http1)]
    [InlineData(1, false, HttpProtocols.Http1)]
    [InlineData(65_536, false, HttpProtocols.Http1)]
    [InlineData(65_537, true, HttpProtocols.Http1)]
    [InlineData(1_048_576, false, HttpProtocols.Http1)]
    [InlineData(1_048_576, true, HttpProtocols.Http1)]
    [InlineData(0, false, HttpProtocols.Http2)]
    [InlineData(65_537, false, HttpProtocols.Http2)]
    [InlineData(1_048_576, true, HttpProtocols.Http2)]
    public async Task The_handler_reads_all_of_the_body_as_a_stream_by_pipe_and_as_it_was_signed(int size, bool chunked, HttpProtocols protocols)
    {
        byte[] body = RandomNumberGenerator.GetBytes(size);
        await using Server server = await Server.StartAsync(
            app =>
            {
                RouteGroupBuilder group = app.MapGroup("").VerifyWebhook("orders");
                group.MapPost("/stream", async (HttpContext context, CancellationToken token) => Convert.ToHexString(await SHA256.HashDataAsync(context.Request.Body, token)));
                group.MapPost("/pipe", async (HttpContext context, CancellationToken token) => Convert.ToHexString(await SHA256.HashDataAsync(context.Request.BodyReader.AsStream(), token)));
                group.MapPost("/raw", async (HttpContext context, CancellationToken token) => Convert.ToHexString(SHA256.HashData(await context.GetVerifiedWebhook().ReadBodyAsync(token))));
                group.MapPost("/sync", (HttpContext context) =>
                {
                    VerifiedWebhook webhook = context.GetVerifiedWebhook();
                    return webhook.BodyLength == size ? Convert.ToHexString(SHA256.HashData(webhook.OpenBody())) : "another length";
                });
            },
            setup => setup.Protocols = protocols);

        foreach (string path in (string[])["/stream", "/pipe", "/raw", "/sync"])
        {
            Answer answer = await server.AskAsync(server.Request(path, body, server.Sign(body, id: path[1..]), chunked: chunked));

            (answer.Status, answer.Body).Should().Be((200, Convert.ToHexString(SHA256.HashData(body))), path + string.Join(';', server.Errors));
        }

        server.Held.Should().Be(0);
    }

    [Fact]
    public async Task Json_forms_and_files_are_bound_in_minimal_apis_and_controllers()
    {
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.MapPost("/json", (Event received) => $"{received.Type} {received.Amount}").VerifyWebhook("orders");
                app.MapPost("/fields", ([FromForm] string type) => type).VerifyWebhook("orders").DisableAntiforgery();
                app.MapPost("/form", ([FromForm] string type, IFormFile? file) => $"{type} {file?.Length}").VerifyWebhook("orders").DisableAntiforgery();
                app.MapPost("/bytes", (Stream body) => new StreamReader(body).ReadToEnd()).VerifyWebhook("orders");
                app.MapControllers();
            },
            setup => setup.Services = Controllers.Add);
        const string Json = """{"type":"paid","amount":30}""";
        string multipart = "--x\r\nContent-Disposition: form-data; name=\"type\"\r\n\r\npaid\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n" + new string('f', 100_000) + "\r\n--x--\r\n";

        string[] answers =
        [
            (await server.SendAsync("/json", Json, id: "1", contentType: "application/json")).Body,
            (await server.SendAsync("/events", Json, id: "2", contentType: "application/json")).Body,
            (await server.SendAsync("/fields", "type=paid", id: "3", contentType: "application/x-www-form-urlencoded")).Body,
            (await server.SendAsync("/form", multipart, id: "4", contentType: "multipart/form-data; boundary=x")).Body,
            (await server.SendAsync("/events/form", multipart, id: "5", contentType: "multipart/form-data; boundary=x")).Body,
            (await server.SendAsync("/bytes", "two apples", id: "6")).Body,
        ];

        answers.Should().Equal("paid 30", "paid 30 2", "paid", "paid 100000", "paid 100000", "two apples");
    }

    [Theory]
    [InlineData(false, HttpProtocols.Http1)]
    [InlineData(true, HttpProtocols.Http1)]
    [InlineData(false, HttpProtocols.Http2)]
    [InlineData(true, HttpProtocols.Http2)]
    public async Task A_body_past_the_limit_is_refused_and_one_that_fits_is_not(bool chunked, HttpProtocols protocols)
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => $"{++runs}").VerifyWebhook("orders"),
            setup => (setup.Protocols, setup.Receiving) = (protocols, o => (o.MaxBodyBytes, o.MaxBytesInMemory) = (20_000, 100)));
        byte[] fits = new byte[20_000], exceeds = new byte[20_001];

        Answer taken = await server.AskAsync(server.Request("/", fits, server.Sign(fits), chunked: chunked));
        Answer refused = await server.AskAsync(server.Request("/", exceeds, server.Sign(exceeds, id: "msg_2"), chunked: chunked));

        (taken.Status, taken.Body).Should().Be((200, "1"));
        (refused.Status, refused.Code, runs).Should().Be((413, "request_too_large", 1));
        server.Errors.Should().BeEmpty();
        server.Held.Should().Be(0);
    }

    [Fact]
    public async Task A_body_in_chunks_of_one_byte_is_as_good_as_any()
    {
        byte[] body = new byte[20_000];
        await using Server server = await Server.StartAsync(app => app.MapPost("/", (HttpContext context) => $"{context.GetVerifiedWebhook().BodyLength}").VerifyWebhook("orders"), setup => setup.Receiving = o => o.MaxBodyBytes = 30_000);
        using TcpClient client = await server.ConnectRawAsync();
        await client.GetStream().WriteAsync(Server.Head("/", server.Sign(body), "Transfer-Encoding: chunked\r\n\r\n"));
        await client.GetStream().WriteAsync(Encoding.Latin1.GetBytes(string.Concat(body.Select(_ => "1\r\n\0\r\n")) + "0\r\n\r\n"));

        int status = await Server.StatusAsync(client);

        status.Should().Be(200);
    }

    [Fact]
    public async Task A_server_that_allows_less_than_the_options_is_told_of_as_413()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => "ran").VerifyWebhook("orders"),
            setup => setup.Services = services => services.Configure<KestrelServerOptions>(kestrel => kestrel.Limits.MaxRequestBodySize = 100));
        byte[] body = new byte[1000];

        Answer answer = await server.AskAsync(server.Request("/", body, server.Sign(body), chunked: true));

        (answer.Status, answer.Code).Should().Be((413, "request_too_large"));
    }

    [Fact]
    public async Task A_compressed_body_is_verified_as_it_came()
    {
        using var compressed = new MemoryStream();
        using (var gzip = new GZipStream(compressed, CompressionLevel.Optimal))
        {
            gzip.Write("""{"type":"paid","amount":30}"""u8);
        }

        byte[] body = compressed.ToArray();
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseRequestDecompression();
                app.MapPost("/bound", (Event received) => $"{received.Type} {received.Amount}").VerifyWebhook("orders");
            },
            setup => setup.Services = services => services.AddRequestDecompression(_ => { }));
        HttpRequestMessage Signed(string path, byte[] signed)
        {
            HttpRequestMessage request = server.Request(path, body, server.Sign(signed, id: path[1..]), "application/json");
            request.Content!.Headers.ContentEncoding.Add("gzip");
            return request;
        }

        Answer bound = await server.AskAsync(Signed("/bound", body));
        Answer content = await server.AskAsync(Signed("/bound", """{"type":"paid","amount":30}"""u8.ToArray()));

        (bound.Status, bound.Body, content.Status).Should().Be((200, "paid 30", 401), string.Join(';', server.Errors));
    }

    [Fact]
    public async Task A_compressed_body_of_known_length_decodes_to_as_much_as_the_server_allows()
    {
        using var compressed = new MemoryStream();
        using (var gzip = new GZipStream(compressed, CompressionLevel.Optimal))
        {
            gzip.Write(new byte[3_000_000]);
        }

        byte[] body = compressed.ToArray();
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.UseRequestDecompression();
                app.MapPost("/", async (HttpContext context) =>
                {
                    using var decoded = new MemoryStream();
                    await context.Request.Body.CopyToAsync(decoded);
                    return decoded.Length;
                }).VerifyWebhook("orders");
            },
            setup => setup.Services = services => services.AddRequestDecompression(_ => { }));
        HttpRequestMessage request = server.Request("/", body, server.Sign(body));
        request.Content!.Headers.ContentEncoding.Add("gzip");

        Answer answer = await server.AskAsync(request);

        (answer.Status, answer.Body).Should().Be((200, "3000000"), string.Join(';', server.Errors));
    }

    [Fact]
    public async Task A_body_that_is_slower_than_the_server_allows_is_told_of_as_408()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => "ran").VerifyWebhook("orders"),
            setup => setup.Services = services => services.Configure<KestrelServerOptions>(kestrel => kestrel.Limits.MinRequestBodyDataRate = new MinDataRate(1_000_000, TimeSpan.FromSeconds(1.1))));
        using TcpClient client = await server.ConnectRawAsync();
        await client.GetStream().WriteAsync(Server.Head("/", server.Sign(new byte[100]), "Content-Length: 100\r\n\r\nabc"));

        int status = await Server.StatusAsync(client);

        (status, server.Held).Should().Be((408, 0));
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task Bodies_of_unknown_length_have_half_of_what_is_allowed()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => "ran").VerifyWebhook("orders"), setup => setup.Receiving = o => (o.MaxBodyBytes, o.MaxUnverifiedBytes) = (10_000, 20_000));
        byte[] body = new byte[10_000];
        using TcpClient slow = await server.ConnectRawAsync();
        await slow.GetStream().WriteAsync(Server.Head("/", server.Sign(body), "Content-Length: 10000\r\n\r\na"));
        Eventually.BeTrue(() => server.Held == 1, "it has begun");

        Answer chunked = await server.AskAsync(server.Request("/", body, server.Sign(body), chunked: true));
        Answer known = await server.AskAsync(server.Request("/", body, server.Sign(body)));

        (chunked.Status, known.Status).Should().Be((503, 200));
    }

    [Theory]
    [InlineData("Content-Length: 100\r\n\r\nhalf of it")]
    [InlineData("Transfer-Encoding: chunked\r\n\r\n64\r\nhalf of it")]
    [InlineData("Transfer-Encoding: chunked\r\n\r\na\r\nhalf of it\r\n")]
    public async Task A_body_that_stops_half_way_is_never_handled_and_holds_nothing(string rest)
    {
        int runs = 0, left = 0;
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => $"{++runs}").VerifyWebhook("orders"),
            setup => setup.Outside = app => app.Use(async (context, next) =>
            {
                await next(context);
                Interlocked.Increment(ref left);
            }));
        using (TcpClient client = await server.ConnectRawAsync())
        {
            await client.GetStream().WriteAsync(Server.Head("/", server.Sign("half of it"u8.ToArray()), rest));
            client.Client.Shutdown(SocketShutdown.Send);
            Eventually.BeTrue(() => Volatile.Read(ref left) == 1, "the request has left without an exception");
        }

        Answer whole = await server.SendAsync("/", "half of it");

        (whole.Body, runs, server.Held).Should().Be(("1", 1, 0));
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [InlineData("Content-Length: 4\r\n\r\ntwo apples", 401)] // what is behind the length is another request
    [InlineData("Content-Length: -1\r\n\r\ntwo apples", 400)]
    [InlineData("Content-Length: 10\r\nContent-Length: 11\r\n\r\ntwo apples", 400)]
    [InlineData("Content-Length: 99999999999999999999\r\n\r\ntwo apples", 400)]
    [InlineData("Content-Length: 9223372036854775807\r\n\r\ntwo apples", 413)]
    [InlineData("Transfer-Encoding: chunked\r\n\r\nzz\r\ntwo apples\r\n", 400)]
    [InlineData("Transfer-Encoding: chunked\r\n\r\na\r\ntwo apples and more\r\n0\r\n\r\n", 400)]
    [InlineData("\r\n", 401)]
    public async Task A_length_that_is_a_lie_is_refused(string rest, int expected)
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => $"{++runs}").VerifyWebhook("orders"));
        using TcpClient client = await server.ConnectRawAsync();
        await client.GetStream().WriteAsync(Server.Head("/", server.Sign("two apples"u8.ToArray()), rest));

        int status = await Server.StatusAsync(client);

        (status, runs, server.Held).Should().Be((expected, 0, 0));
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [InlineData("webhook-signature: v1,AAAA\r\n", 401)] // no id, no timestamp
    [InlineData("", 401)]
    public async Task Whoever_has_no_headers_is_refused_before_a_byte_of_the_body_is_asked_for(string headers, int expected)
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => "ran").VerifyWebhook("orders"));
        using TcpClient client = await server.ConnectRawAsync();
        await client.GetStream().WriteAsync(Server.Head("/", [], $"{headers}Expect: 100-continue\r\nContent-Length: 25000000\r\n\r\n"));

        int status = await Server.StatusAsync(client);
        string rest = await new StreamReader(client.GetStream()).ReadToEndAsync().Soon();

        status.Should().Be(expected, "a server that reads says 100 first");
        rest.Should().Contain("webhook_not_verified", "and then the connection is closed, though 25 MB were announced");
    }

    [Fact]
    public async Task A_short_body_of_a_refused_request_leaves_the_connection_in_use()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => "ran").VerifyWebhook("orders"));
        using TcpClient client = await server.ConnectRawAsync();
        byte[] body = "two apples"u8.ToArray();

        await client.GetStream().WriteAsync(Server.Head("/", [], "Content-Length: 10\r\n\r\ntwo apples"));
        int first = await Server.StatusAsync(client);
        await client.GetStream().WriteAsync(Server.Head("/", server.Sign(body), "Connection: close\r\nContent-Length: 10\r\n\r\ntwo apples"));
        string rest = await new StreamReader(client.GetStream()).ReadToEndAsync().Soon();

        first.Should().Be(401);
        rest.Should().Contain("HTTP/1.1 200 OK").And.EndWith("ran");
    }

    [Fact]
    public async Task More_unverified_bytes_than_are_allowed_over_all_requests_are_refused_until_others_have_left()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => "ran").VerifyWebhook("orders"), setup => setup.Receiving = o => (o.MaxBodyBytes, o.MaxUnverifiedBytes, o.RetryAfter) = (10_000, 15_000, TimeSpan.FromSeconds(16.5)));
        byte[] body = new byte[10_000];
        Answer known, chunked;
        int announced;
        using (TcpClient slow = await server.ConnectRawAsync())
        {
            await slow.GetStream().WriteAsync(Server.Head("/", server.Sign(body), "Content-Length: 10000\r\n\r\n"));
            await slow.GetStream().WriteAsync(body.AsMemory(0, 9_000));
            Eventually.BeTrue(() => server.Held == 9_000, "it is counted as it comes");

            known = await server.AskAsync(server.Request("/", body, server.Sign(body)));
            chunked = await server.AskAsync(server.Request("/", body, server.Sign(body), chunked: true));
            using TcpClient asks = await server.ConnectRawAsync();
            await asks.GetStream().WriteAsync(Server.Head("/", server.Sign(body), "Expect: 100-continue\r\nContent-Length: 10000\r\n\r\n"));
            announced = await Server.StatusAsync(asks);
            server.Held.Should().Be(9_000);
        }

        Eventually.BeTrue(() => server.Held == 0, "who has left holds nothing");
        Answer after = await server.AskAsync(server.Request("/", body, server.Sign(body)));

        (known.Status, known.Code, known.RetryAfter).Should().Be((503, "webhooks_unavailable", 17));
        (chunked.Status, chunked.Code, chunked.RetryAfter).Should().Be((503, "webhooks_unavailable", 17));
        (announced, after.Status).Should().Be((503, 200), "what is announced and does not fit is not asked for");
    }

    [Fact]
    public async Task What_is_verified_is_not_counted_while_its_handler_runs()
    {
        int running = 0;
        TaskCompletionSource gate = Eventually.Gate();
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", async () =>
            {
                Interlocked.Increment(ref running);
                await gate.Task;
                return "ran";
            }).VerifyWebhook("orders"),
            setup => setup.Receiving = o => (o.MaxBodyBytes, o.MaxUnverifiedBytes) = (10_000, 10_000));
        byte[] body = new byte[10_000];

        var all = new List<Task<Answer>>();
        for (int i = 1; i <= 5; i++)
        {
            all.Add(server.AskAsync(server.Request("/", body, server.Sign(body, id: $"msg_{i}"))));
            Eventually.BeTrue(() => Volatile.Read(ref running) == i, "each is verified beside those that run");
        }

        gate.SetResult();

        (await Task.WhenAll(all)).Should().OnlyContain(answer => answer.Status == 200);
    }

    [Fact]
    public async Task A_body_that_trickles_ends_with_its_time()
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => "ran").VerifyWebhook("orders"));
        byte[] body = new byte[100];
        using TcpClient client = await server.ConnectRawAsync();
        await client.GetStream().WriteAsync(Server.Head("/", server.Sign(body), "Content-Length: 100\r\n\r\nabc"));
        Eventually.BeTrue(() => server.Held == 3, "it has begun");

        server.Time.Advance(TimeSpan.FromSeconds(29));
        await client.GetStream().WriteAsync("def"u8.ToArray());
        Eventually.BeTrue(() => server.Held == 6, "there is time left");
        server.Time.Advance(TimeSpan.FromSeconds(1));
        int status = await Server.StatusAsync(client);

        (status, server.Held).Should().Be((408, 0));
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task A_form_that_was_read_before_fails_loudly_and_a_buffered_body_is_read_again()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", (HttpContext context) => $"{context.GetVerifiedWebhook().BodyLength}").VerifyWebhook("orders"),
            setup => setup.Outside = app => app.Use(async (context, next) =>
            {
                if (context.Request.ContentType == "text/plain")
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

        Answer buffered = await server.SendAsync("/", contentType: "text/plain");
        Answer form = await server.SendAsync("/", "a=b", id: "msg_2", contentType: "application/x-www-form-urlencoded");

        (buffered.Body, form.Status).Should().Be(("10", 500));
        server.Errors.Should().ContainSingle().Which.Should().Contain("Call app.UseWebhookVerification() before what reads the body");
    }

    [Fact]
    public async Task Whoever_reads_a_body_after_its_request_has_ended_gets_an_exception_and_not_anothers_body()
    {
        VerifiedWebhook? kept = null;
        Stream? stream = null;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", (HttpContext context) =>
        {
            kept = context.GetVerifiedWebhook();
            stream = kept.OpenBody();
        }).VerifyWebhook("orders"));

        await server.SendAsync("/");
        Action open = () => Eventually.BeTrue(() => kept!.OpenBody() is null, "it throws");
        Func<Task> read = async () => await stream!.ReadExactlyAsync(new byte[10]);

        open.Should().Throw<ObjectDisposedException>();
        await read.Should().ThrowAsync<ObjectDisposedException>();
    }

    [Fact]
    public async Task Whoever_reads_a_body_while_its_request_ends_never_gets_anothers_bytes()
    {
        const int Size = 1_048_576;
        var ours = new ReadOnlySequence<byte>(Enumerable.Repeat((byte)1, Size).ToArray());
        int anothers = 0;

        for (int i = 0; i < 600; i++)
        {
            using var body = new ReceivedBody(new UnverifiedBytes(), 2 * Size, Size);
            await body.AppendAsync(ours);
            byte[] read = new byte[Size];
            using var start = new Barrier(2);
            Task reader = Task.Run(() =>
            {
                start.SignalAndWait();
                body.Read(0, read);
            });
            start.SignalAndWait();
            Thread.SpinWait(i % 200 * 8);
            body.Dispose();
            byte[] next = ArrayPool<byte>.Shared.Rent(Size);
            next.AsSpan(Size - 4096, 4096).Fill(2); // what is copied last
            ArrayPool<byte>.Shared.Return(next);
            await reader.ContinueWith(_ => { }, TaskScheduler.Default);
            anothers += read.AsSpan().Contains((byte)2) ? 1 : 0;
        }

        anothers.Should().Be(0);
    }

    [Fact]
    public async Task What_does_not_fit_takes_no_room_from_what_does()
    {
        var unverified = new UnverifiedBytes();
        using var end = new CancellationTokenSource();
        Task greedy = Task.Run(() =>
        {
            while (!end.IsCancellationRequested)
            {
                unverified.TryTake(101, 100);
            }
        });

        int refused = 0;
        for (int i = 0; i < 500_000; i++)
        {
            if (unverified.TryTake(1, 100))
            {
                unverified.Give(1);
            }
            else
            {
                refused++;
            }
        }

        await end.CancelAsync();
        await greedy.Soon();

        (refused, unverified.Held).Should().Be((0, 0));
    }

    [Fact]
    public async Task Of_hundreds_who_break_off_half_way_nothing_is_left()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => $"{++runs}").VerifyWebhook("orders"), setup => setup.Receiving = o => o.MaxBytesInMemory = 1_000);
        byte[] body = new byte[20_000];
        Dictionary<string, string> headers = server.Sign(body);

        await Parallel.ForEachAsync(Enumerable.Range(0, 400), new ParallelOptions { MaxDegreeOfParallelism = 8 }, async (i, token) =>
        {
            using TcpClient client = await server.ConnectRawAsync();
            await client.GetStream().WriteAsync(Server.Head("/", headers, i % 2 == 0 ? "Transfer-Encoding: chunked\r\n\r\n4e20\r\n" : "Content-Length: 20000\r\n\r\n"), token);
            await client.GetStream().WriteAsync(body.AsMemory(0, i * 49), token);
            client.LingerState = new LingerOption(i % 3 == 0, 0);
        });

        Eventually.BeTrue(() => server.Held == 0, "nobody is left");
        (await server.SendAsync("/")).Body.Should().Be("1");
        server.Errors.Should().BeEmpty();
    }
}
