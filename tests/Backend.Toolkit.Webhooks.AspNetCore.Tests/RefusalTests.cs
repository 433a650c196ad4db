using System.Globalization;
using System.Net.Sockets;
using System.Text;
using CsCheck;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Webhooks.AspNetCore.Tests;

/// <summary>What no sender signed is answered 401, and nothing that anybody can send is an error of ours.</summary>
public sealed class RefusalTests
{
    public static TheoryData<string, Action<Dictionary<string, string>>> Bad { get; } = new()
    {
        { "MissingHeader", headers => headers.Clear() },
        { "MissingHeader", headers => headers.Remove("webhook-id") },
        { "MissingHeader", headers => headers["webhook-timestamp"] = "" },
        { "Malformed", headers => headers["webhook-id"] = "msg.1" },
        { "Malformed", headers => headers["webhook-timestamp"] = "+1" },
        { "Malformed", headers => headers["webhook-timestamp"] = "99999999999999999999" },
        { "Malformed", headers => headers["webhook-signature"] = "v1" },
        { "Stale", headers => headers["webhook-timestamp"] = "1893455699" },
        { "FromFuture", headers => headers["webhook-timestamp"] = "1893456301" },
        { "BadSignature", headers => headers["webhook-timestamp"] = "1893456001" },
        { "BadSignature", headers => headers["webhook-id"] = "msg_2" },
        { "BadSignature", headers => headers["webhook-signature"] = $"v1,{Convert.ToBase64String(new byte[32])}" },
        { "HeaderTooLarge", headers => headers["webhook-signature"] = string.Join(' ', Enumerable.Repeat($"v1,{Convert.ToBase64String(new byte[32])}", 33)) },
        { "HeaderTooLarge", headers => headers["webhook-id"] = new string('i', 5_000) },
    };

    [Theory]
    [MemberData(nameof(Bad))]
    public async Task Each_reason_is_in_the_log_and_none_in_the_answer(string reason, Action<Dictionary<string, string>> spoil)
    {
        int runs = 0;
        byte[] body = "two apples"u8.ToArray();
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => $"{++runs}").VerifyWebhook("orders"), setup => setup.LogLevel = LogLevel.Debug);
        Dictionary<string, string> headers = server.Sign(body);
        spoil(headers);

        Answer answer = await server.AskAsync(server.Request("/", body, headers));

        (answer.Status, answer.Code, answer.Headers["WWW-Authenticate"], runs).Should().Be((401, "webhook_not_verified", "Webhook", 0));
        answer.Body.Should().Be("""{"type":"https://www.rfc-editor.org/rfc/rfc9110#section-15","title":"Unauthorized","status":401,"detail":"The request is not a webhook that was signed for this endpoint.","code":"webhook_not_verified"}""");
        server.Said.Should().Equal($"Debug: Webhook 'orders': refused, {reason}.");
        server.Held.Should().Be(0);
    }

    [Theory]
    [InlineData("GET")]
    [InlineData("PUT")]
    [InlineData("HEAD")]
    [InlineData("OPTIONS")]
    public async Task Every_method_must_be_signed(string method)
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapMethods("/", [method], () => $"{++runs}").VerifyWebhook("orders"));
        HttpRequestMessage request = server.Request("/", [], []);
        (request.Method, request.Content) = (new HttpMethod(method), null);
        HttpRequestMessage signed = server.Request("/", [], server.Sign([]));
        (signed.Method, signed.Content) = (new HttpMethod(method), null);

        Answer refused = await server.AskAsync(request);
        Answer taken = await server.AskAsync(signed);

        (refused.Status, taken.Status, runs).Should().Be((401, 200, 1));
    }

    [Fact]
    public async Task A_header_that_is_there_twice_is_as_good_as_malformed()
    {
        int runs = 0;
        byte[] body = "two apples"u8.ToArray();
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => $"{++runs}").VerifyWebhook("orders"));
        Dictionary<string, string> headers = server.Sign(body);

        foreach (string name in (string[])["webhook-id", "webhook-timestamp"])
        {
            HttpRequestMessage twice = server.Request("/", body, headers);
            twice.Headers.TryAddWithoutValidation(name, headers[name]);

            (await server.AskAsync(twice)).Status.Should().Be(401);
        }

        runs.Should().Be(0);
    }

    [Theory]
    [InlineData(HttpProtocols.Http1)]
    [InlineData(HttpProtocols.Http2)]
    public async Task A_header_of_a_megabyte_is_the_servers_to_refuse(HttpProtocols protocols)
    {
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => "ran").VerifyWebhook("orders"), setup => setup.Protocols = protocols);
        Func<Task<Answer>> send = () => server.AskAsync(server.Request("/", [], new() { ["webhook-signature"] = new string('v', 1_000_000) }));

        try
        {
            (await send()).Status.Should().BeOneOf(400, 431);
        }
        catch (HttpRequestException)
        {
            // Closed while it was being sent.
        }

        (await server.SendAsync("/")).Status.Should().Be(200);
        server.Errors.Should().BeEmpty();
    }

    [Fact]
    public async Task A_thousand_signatures_are_refused_also_with_a_valid_one_among_them_and_thirty_two_are_not()
    {
        byte[] body = "two apples"u8.ToArray();
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => "ran").VerifyWebhook("orders"),
            setup => setup.Services = services => services.Configure<KestrelServerOptions>(kestrel => kestrel.Limits.MaxRequestHeadersTotalSize = 1_000_000));
        Dictionary<string, string> headers = server.Sign(body);
        string valid = headers["webhook-signature"];
        string bad = $"v1,{Convert.ToBase64String(new byte[32])}";

        headers["webhook-signature"] = $"{string.Join(' ', Enumerable.Repeat(bad, 999))} {valid}";
        Answer many = await server.AskAsync(server.Request("/", body, headers));
        headers["webhook-signature"] = $"{string.Join(' ', Enumerable.Repeat(bad, 31))} {valid}";
        Answer few = await server.AskAsync(server.Request("/", body, headers));

        (many.Status, few.Status).Should().Be((401, 200));
    }

    [Fact]
    public async Task The_applications_own_problem_details_are_used()
    {
        await using Server server = await Server.StartAsync(
            app => app.MapPost("/", () => "ran").VerifyWebhook("orders"),
            setup => setup.Services = services => services.AddProblemDetails(o => o.CustomizeProblemDetails = context => context.ProblemDetails.Extensions["shop"] = "ours"));

        Answer answer = await server.AskAsync(server.Request("/", [], []));

        answer.Status.Should().Be(401);
        answer.Code.Should().Be("webhook_not_verified");
        answer.Body.Should().Contain("\"shop\":\"ours\"");
    }

    [Theory]
    [InlineData("th-TH")]
    [InlineData("tr-TR")]
    [InlineData("ar-SA")]
    public async Task Whatever_is_in_the_headers_and_the_body_only_what_was_signed_runs(string culture)
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = CultureInfo.DefaultThreadCurrentCulture = new CultureInfo(culture);
        try
        {
            int runs = 0;
            await using Server server = await Server.StartAsync(app => app.MapPost("/", () => $"{++runs}").VerifyWebhook("orders"));
            byte[] body = "two apples"u8.ToArray();
            Dictionary<string, string> valid = server.Sign(body);
            string[] names = [.. valid.Keys];
            Gen<string> value = Gen.OneOf(
                Gen.String[Gen.Char[' ', '~'], 0, 200],
                Gen.String[Gen.Char["v1,=. 09aZ+/_-"], 0, 300],
                Gen.Select(Gen.Int[0, 2].Select(i => valid[names[i]]), Gen.Int[0, 60], Gen.Char[' ', '~']).Select((text, at, c) => text.Length == 0 ? text : text.Remove(at % text.Length, 1).Insert(at % text.Length, $"{c}")));

            await Gen.Select(Gen.Int[0, 2].Select(i => names[i]), value, Gen.Byte.Array[0, 64]).SampleAsync(
                async (name, text, junk) =>
                {
                    var headers = new Dictionary<string, string>(valid) { [name] = text };
                    bool isSame = text.Trim() == valid[name];
                    Answer answer = await server.AskAsync(server.Request("/", isSame ? junk : body, headers));

                    // An entry that is not right beside one that is changes nothing.
                    answer.Status.Should().Be(name == "webhook-signature" && !isSame && text.Split(' ').Contains(valid[name]) ? 200 : 401, $"{name}: {text}");
                },
                iter: 1_000, threads: 2);

            runs.Should().BeLessThanOrEqualTo(1);
            server.Errors.Should().BeEmpty();
            server.Held.Should().Be(0);
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
            CultureInfo.DefaultThreadCurrentCulture = null;
        }
    }

    [Fact]
    public async Task Bytes_in_a_header_that_are_no_text_are_refused()
    {
        int runs = 0;
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => $"{++runs}").VerifyWebhook("orders"));

        foreach (string junk in (string[])["\u00ff\u00fe", "v1,\u0001", "v1,grüße", "v1,\0"])
        {
            using TcpClient client = await server.ConnectRawAsync();
            Dictionary<string, string> headers = server.Sign("two apples"u8.ToArray());
            headers.Remove("webhook-signature");
            await client.GetStream().WriteAsync((byte[])[.. Server.Head("/", headers, "Content-Length: 10\r\nwebhook-signature: "), .. Encoding.Latin1.GetBytes(junk), .. "\r\n\r\ntwo apples"u8]);

            (await Server.StatusAsync(client)).Should().BeOneOf(400, 401);
        }

        runs.Should().Be(0);
        server.Errors.Should().BeEmpty();
    }
}
