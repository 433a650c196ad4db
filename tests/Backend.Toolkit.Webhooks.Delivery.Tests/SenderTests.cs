using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

public sealed class SenderTests
{
    [Fact]
    public async Task An_attempt_is_a_signed_post_of_the_payload_and_nothing_else_travels()
    {
        await using var server = Loopback.Answering("200 OK\r\nSet-Cookie: a=b", "fine");
        using var sender = Sender();
        using var activity = new System.Diagnostics.Activity("caller").SetIdFormat(System.Diagnostics.ActivityIdFormat.W3C).Start();

        Answer answer = await sender.SendAsync(Support.Claim(server.Url), CancellationToken.None);
        await sender.SendAsync(Support.Claim(server.Url), CancellationToken.None);

        answer.IsSuccess.Should().BeTrue();
        Encoding.UTF8.GetString(answer.Response).Should().Be("fine");
        server.Requests.Should().HaveCount(2);
        server.Connections.Should().Be(1, "a connection is used again");
        Received request = server.Requests.Last();
        request.Line.Should().Be("POST /hooks HTTP/1.1");
        Encoding.UTF8.GetString(request.Body).Should().Be("""{"n":1}""");
        request.Headers.Keys.Should().BeEquivalentTo("Host", "User-Agent", "webhook-id", "webhook-timestamp", "webhook-signature", "Content-Type", "Content-Length");
        var verifier = new WebhookVerifier(new WebhookVerifierOptions { Name = "receiver", Keys = { new WebhookKey(Support.Secret) } });
        verifier.Verify(request.Headers, static (headers, name) => headers.GetValueOrDefault(name), request.Body).Should().Be(WebhookVerification.Valid);
    }

    [Fact]
    public async Task A_connection_that_nobody_uses_is_closed_within_seconds()
    {
        await using var server = Loopback.Answering("200 OK");
        using var sender = Sender();
        await sender.SendAsync(Support.Claim(server.Url), CancellationToken.None);
        int kept = server.Open;

        await Support.UntilAsync(() => Task.FromResult(server.Open == 0), "it is closed", seconds: 20);

        kept.Should().Be(1, "another attempt would have used it");
    }

    [Fact]
    public async Task The_signature_is_fresh_for_each_attempt_and_the_id_stays()
    {
        await using var server = Loopback.Answering("200 OK");
        var time = new SettableTime(Support.Start);
        using var sender = new AttemptSender(() => new Settings(Support.Options()), time);
        WebhookClaim claim = Support.Claim(server.Url);

        await sender.SendAsync(claim, CancellationToken.None);
        time.Now += TimeSpan.FromHours(2);
        await sender.SendAsync(claim, CancellationToken.None);

        Received[] requests = [.. server.Requests];
        requests.Select(request => request.Headers["webhook-id"]).Should().Equal("msg_1", "msg_1");
        requests.Select(request => long.Parse(request.Headers["webhook-timestamp"], CultureInfo.InvariantCulture)).Should().Equal(Support.Start.ToUnixTimeSeconds(), Support.Start.ToUnixTimeSeconds() + 7200);
        requests.Select(request => request.Headers["webhook-signature"]).Should().OnlyHaveUniqueItems();
    }

    [Fact]
    public async Task While_secrets_overlap_it_is_signed_with_both_and_afterwards_with_the_new_one()
    {
        await using var server = Loopback.Answering("200 OK");
        WebhookDeliveryOptions options = Support.Options();
        var time = new SettableTime(Support.Start);
        string first = Secrets.Add("", Support.Secret, Support.Start, Support.Start, options);
        string both = Secrets.Add(first, WebhookKey.NewSecret(), Support.Start.AddHours(1), Support.Start, options);
        using var sender = new AttemptSender(() => new Settings(options), time);

        await sender.SendAsync(Support.Claim(server.Url, both), CancellationToken.None);
        time.Now += TimeSpan.FromHours(2);
        await sender.SendAsync(Support.Claim(server.Url, both), CancellationToken.None);

        server.Requests.Select(request => request.Headers["webhook-signature"].Split(' ').Length).Should().Equal(2, 1);
    }

    [Theory]
    [InlineData("301 Moved")]
    [InlineData("302 Found")]
    [InlineData("307 Temporary Redirect")]
    [InlineData("308 Permanent Redirect")]
    public async Task A_redirect_is_a_failure_and_nobody_follows_it(string status)
    {
        await using var canary = Loopback.Answering("200 OK", address: "127.0.0.2");
        await using var server = Loopback.Answering($"{status}\r\nLocation: {canary.Url}");
        using var sender = Sender(o => o.AllowedNetworks.Add("127.0.0.2/32"));

        Answer answer = await sender.SendAsync(Support.Claim(server.Url), CancellationToken.None);

        answer.IsSuccess.Should().BeFalse();
        answer.Status.Should().Be(int.Parse(status[..3], CultureInfo.InvariantCulture));
        canary.Connections.Should().Be(0);
    }

    [Fact]
    public async Task A_name_that_changes_its_address_after_the_check_reaches_nothing_inside()
    {
        await using var canary = Loopback.Answering("200 OK", address: "127.0.0.2");
        await using var server = Loopback.Answering("200 OK\r\nConnection: close");
        string url = $"http://rebinding.example.com:{canary.Port}/";
        int resolved = 0;
        using var sender = Sender();
        sender.Resolve = (_, _) => Task.FromResult<IPAddress[]>(Interlocked.Increment(ref resolved) % 2 == 1 ? [IPAddress.Parse("127.0.0.1")] : [IPAddress.Parse("127.0.0.2")]);

        var answers = new List<Answer>();
        for (int i = 0; i < 10; i++)
        {
            answers.Add(await sender.SendAsync(Support.Claim(url), CancellationToken.None));
        }

        canary.Connections.Should().Be(0);
        resolved.Should().Be(10, "each connection resolves once, and goes to what was checked");
        answers.Count(answer => answer.Error!.StartsWith("refused", StringComparison.Ordinal)).Should().Be(5);
    }

    [Fact]
    public async Task One_bad_record_among_good_ones_refuses_the_host_and_the_reason_tells_no_address()
    {
        await using var canary = Loopback.Answering("200 OK", address: "127.0.0.2");
        await using var server = Loopback.Answering("200 OK");
        using var sender = Sender();
        sender.Resolve = (_, _) => Task.FromResult<IPAddress[]>([IPAddress.Parse("127.0.0.1"), IPAddress.Parse("127.0.0.2")]);

        Answer answer = await sender.SendAsync(Support.Claim($"http://two.example.com:{server.Port}/"), CancellationToken.None);

        answer.Error.Should().StartWith("refused").And.NotContain("127");
        (server.Connections + canary.Connections).Should().Be(0);
    }

    [Fact]
    public async Task Where_one_address_of_a_host_does_not_answer_the_next_is_taken()
    {
        await using var server = Loopback.Answering("200 OK");
        using var sender = Sender(o => o.AllowedNetworks.Add("127.0.0.3/32"));
        sender.Resolve = (_, _) => Task.FromResult<IPAddress[]>([IPAddress.Parse("127.0.0.3"), IPAddress.Parse("127.0.0.1")]);

        Answer answer = await sender.SendAsync(Support.Claim($"http://two.example.com:{server.Port}/"), CancellationToken.None);

        answer.IsSuccess.Should().BeTrue();
    }

    [Fact]
    public async Task A_URL_that_the_rules_no_longer_allow_is_not_connected_to()
    {
        await using var canary = Loopback.Answering("200 OK");
        using var sender = new AttemptSender(() => new Settings(new WebhookDeliveryOptions { Name = "strict" }), TimeProvider.System);

        Answer answer = await sender.SendAsync(Support.Claim(canary.Url), CancellationToken.None);

        answer.Error.Should().StartWith("refused");
        canary.Connections.Should().Be(0);
    }

    [Fact]
    public async Task A_connection_that_older_options_let_pass_is_not_used_under_new_ones()
    {
        await using var canary = Loopback.Answering("200 OK");
        var settings = new Settings(Support.Options());
        using var sender = new AttemptSender(() => settings, TimeProvider.System) { Resolve = (_, _) => Task.FromResult<IPAddress[]>([IPAddress.Loopback]) };
        WebhookClaim claim = Support.Claim($"http://inner.example.com:{canary.Port}/");

        Answer before = await sender.SendAsync(claim, CancellationToken.None);
        settings = new Settings(new WebhookDeliveryOptions { Name = "stricter", AllowHttp = true });
        sender.Forget();
        Answer after = await sender.SendAsync(claim, CancellationToken.None);

        before.IsSuccess.Should().BeTrue();
        after.Error.Should().StartWith("refused");
        canary.Requests.Should().ContainSingle();
    }

    [Fact]
    public async Task Nothing_is_fetched_that_a_certificate_names()
    {
        await using var canary = Loopback.Answering("404 Not Found");
        using X509Certificate2 certificate = Certificate(canary.Url);
        await using var server = new TlsServer(certificate);
        using var sender = Sender();
        int proxied = Proxies.Canary.Connections;

        Answer answer = await sender.SendAsync(Support.Claim($"https://127.0.0.1:{server.Port}/"), CancellationToken.None);
        await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, CancellationToken.None);

        answer.Error.Should().Be("no secure connection", "nobody trusts its issuer");
        server.Connections.Should().Be(1);
        (canary.Connections + Proxies.Canary.Connections - proxied).Should().Be(0);
    }

    [Fact]
    public async Task A_proxy_in_the_environment_is_not_used()
    {
        await using var server = Loopback.Answering("200 OK");
        using var sender = Sender();
        using var proxied = new HttpClient(new SocketsHttpHandler());
        int before = Proxies.Canary.Connections;

        Answer answer = await sender.SendAsync(Support.Claim(server.Url), CancellationToken.None);
        await sender.SendAsync(Support.Claim($"https://127.0.0.1:{server.Port}/"), CancellationToken.None);
        int afterAttempts = Proxies.Canary.Connections;
        using HttpResponseMessage _ = await proxied.GetAsync(server.Url);

        answer.IsSuccess.Should().BeTrue();
        afterAttempts.Should().Be(before);
        Proxies.Canary.Connections.Should().Be(before + 1, "others would use it");
    }

    [Fact]
    public async Task The_deadline_holds_for_an_answer_that_does_not_begin()
    {
        await using var server = new Loopback((_, _, token) => Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, token));
        using var sender = Sender(o => o.AttemptTimeout = TimeSpan.FromMilliseconds(300));

        Answer answer = await sender.SendAsync(Support.Claim(server.Url), CancellationToken.None);

        answer.Should().BeEquivalentTo(new { Status = (int?)null, Error = "no answer within 0.3 s", IsSuccess = false });
        answer.Duration.Should().BeGreaterThanOrEqualTo(TimeSpan.FromMilliseconds(290)).And.BeLessThan(TimeSpan.FromSeconds(10));
    }

    [Fact]
    public async Task The_deadline_holds_for_headers_and_for_a_body_that_come_byte_by_byte()
    {
        static async Task DripAsync(Stream stream, string first, CancellationToken token)
        {
            await Loopback.WriteAsync(stream, first, token);
            while (true)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, token);
                await Loopback.WriteAsync(stream, "x", token);
            }
        }

        await using var headers = new Loopback((_, stream, token) => DripAsync(stream, "HTTP/1.1 200 OK\r\nX: ", token));
        await using var body = new Loopback((_, stream, token) => DripAsync(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", token));
        using var sender = Sender(o => o.AttemptTimeout = TimeSpan.FromMilliseconds(500));

        Answer slowHeaders = await sender.SendAsync(Support.Claim(headers.Url), CancellationToken.None);
        Answer slowBody = await sender.SendAsync(Support.Claim(body.Url), CancellationToken.None);

        slowHeaders.Error.Should().Be("no answer within 0.5 s");
        slowBody.Should().BeEquivalentTo(new { Status = 200, Error = "the answer did not end within 0.5 s", IsSuccess = false });
    }

    [Fact]
    public async Task An_endless_body_is_read_to_eight_kilobytes_and_left()
    {
        long written = 0;
        await using var server = new Loopback(async (_, stream, token) =>
        {
            await Loopback.WriteAsync(stream, "HTTP/1.1 200 OK\r\n\r\n", token);
            string chunk = new('x', 65_536);
            while (true)
            {
                await Loopback.WriteAsync(stream, chunk, token);
                Interlocked.Add(ref written, chunk.Length);
            }
        });
        using var sender = Sender();

        Answer answer = await sender.SendAsync(Support.Claim(server.Url), CancellationToken.None);

        answer.IsSuccess.Should().BeTrue();
        answer.Response.Should().HaveCount(8192);
        Interlocked.Read(ref written).Should().BeLessThan(64 * 1024 * 1024);
    }

    [Fact]
    public async Task Huge_headers_and_what_is_no_HTTP_fail_without_more_being_told()
    {
        await using var huge = new Loopback((_, stream, token) => Loopback.WriteAsync(stream, $"HTTP/1.1 200 OK\r\nX: {new string('x', 1_000_000)}\r\n\r\n", token));
        await using var noise = new Loopback((_, stream, token) => Loopback.WriteAsync(stream, "SSH-2.0-OpenSSH_9.2p1 secret-host\r\n", token));
        await using var closing = new Loopback((_, stream, _) =>
        {
            stream.Dispose();
            return Task.CompletedTask;
        });
        using var sender = Sender(o => o.AttemptTimeout = TimeSpan.FromSeconds(5));

        Answer[] answers =
        [
            await sender.SendAsync(Support.Claim(huge.Url), CancellationToken.None),
            await sender.SendAsync(Support.Claim(noise.Url), CancellationToken.None),
            await sender.SendAsync(Support.Claim(closing.Url), CancellationToken.None),
        ];

        answers.Should().OnlyContain(answer => !answer.IsSuccess && answer.Error != null && answer.IsEndpointsFault);
        answers.Should().OnlyContain(answer => !answer.Error!.Contains("SSH") && !answer.Error.Contains("127.0"));
    }

    [Fact]
    public async Task A_compressed_answer_is_kept_as_it_came()
    {
        await using var server = Loopback.Answering("200 OK\r\nContent-Encoding: gzip", "not gzip");
        using var sender = Sender();

        Answer answer = await sender.SendAsync(Support.Claim(server.Url), CancellationToken.None);

        Encoding.UTF8.GetString(answer.Response).Should().Be("not gzip");
    }

    [Fact]
    public async Task Retry_After_is_read_in_both_forms_and_nonsense_is_none()
    {
        await using var seconds = Loopback.Answering("429 Too Many Requests\r\nRetry-After: 120");
        await using var date = Loopback.Answering($"503 Service Unavailable\r\nRetry-After: {TimeProvider.System.GetUtcNow().AddMinutes(10):R}");
        await using var past = Loopback.Answering("503 Service Unavailable\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT");
        await using var nonsense = Loopback.Answering("503 Service Unavailable\r\nRetry-After: -5 soon");
        using var sender = Sender();

        TimeSpan?[] after = [.. await Task.WhenAll(new[] { seconds, date, past, nonsense }.Select(async server => (await sender.SendAsync(Support.Claim(server.Url), CancellationToken.None)).RetryAfter))];

        after[0].Should().Be(TimeSpan.FromMinutes(2));
        after[1].Should().BeCloseTo(TimeSpan.FromMinutes(10), TimeSpan.FromSeconds(30));
        after[2].Should().Be(TimeSpan.Zero);
        after[3].Should().BeNull();
    }

    [Fact]
    public async Task Retry_After_holds_though_the_answer_breaks_off_or_does_not_end()
    {
        const string head = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 120\r\nContent-Length: 50\r\n\r\nx";
        await using var breaking = new Loopback(async (_, stream, token) =>
        {
            await Loopback.WriteAsync(stream, head, token);
            await stream.DisposeAsync();
        });
        await using var hanging = new Loopback(async (_, stream, token) =>
        {
            await Loopback.WriteAsync(stream, head, token);
            await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, token);
        });
        using var sender = Sender(o => o.AttemptTimeout = TimeSpan.FromMilliseconds(500));

        Answer broken = await sender.SendAsync(Support.Claim(breaking.Url), CancellationToken.None);
        Answer unended = await sender.SendAsync(Support.Claim(hanging.Url), CancellationToken.None);

        broken.Should().BeEquivalentTo(new { Error = "the answer broke off", RetryAfter = TimeSpan.FromMinutes(2) });
        unended.Should().BeEquivalentTo(new { Error = "the answer did not end within 0.5 s", RetryAfter = TimeSpan.FromMinutes(2) });
    }

    [Fact]
    public async Task An_attempt_that_is_stopped_is_none()
    {
        await using var server = new Loopback((_, _, token) => Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, token));
        using var sender = Sender();
        using var stop = new CancellationTokenSource();

        Task<Answer> sending = sender.SendAsync(Support.Claim(server.Url), stop.Token);
        await Support.UntilAsync(() => !server.Requests.IsEmpty, "the request came");
        await stop.CancelAsync();

        (await sending).IsNone.Should().BeTrue();
    }

    [Fact]
    public async Task A_secret_that_cannot_be_unprotected_is_not_the_endpoints_fault()
    {
        await using var server = Loopback.Answering("200 OK");
        using var sender = Sender(o =>
        {
            o.Protect = secret => secret;
            o.Unprotect = _ => throw new System.Security.Cryptography.CryptographicException("key ring lost");
        });

        Answer answer = await sender.SendAsync(Support.Claim(server.Url), CancellationToken.None);

        answer.Should().BeEquivalentTo(new { Error = "the secret could not be read", IsEndpointsFault = false });
        server.Connections.Should().Be(0);
    }

    /// <summary>By an issuer that is not sent along, and that it says to be found at the URL.</summary>
    private static X509Certificate2 Certificate(string issuerUrl)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        DateTimeOffset now = TimeProvider.System.GetUtcNow();
        var issuer = new CertificateRequest("CN=issuer", key, HashAlgorithmName.SHA256);
        issuer.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        using X509Certificate2 root = issuer.CreateSelfSigned(now.AddDays(-1), now.AddDays(1));
        using var leafKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var leaf = new CertificateRequest("CN=127.0.0.1", leafKey, HashAlgorithmName.SHA256);
        leaf.CertificateExtensions.Add(new X509AuthorityInformationAccessExtension(null, [issuerUrl]));
        var names = new SubjectAlternativeNameBuilder();
        names.AddIpAddress(IPAddress.Loopback);
        leaf.CertificateExtensions.Add(names.Build());
        using X509Certificate2 bare = leaf.Create(root, now.AddHours(-1), now.AddHours(1), [1, 2, 3]);
        return bare.CopyWithPrivateKey(leafKey);
    }

    private static AttemptSender Sender(Action<WebhookDeliveryOptions>? configure = null)
    {
        var settings = new Settings(Support.Options(configure));
        return new AttemptSender(() => settings, TimeProvider.System);
    }
}
