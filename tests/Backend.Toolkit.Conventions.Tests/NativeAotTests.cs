using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Backend.Toolkit.Tests;
using Backend.Toolkit.Webhooks;
using Backend.Toolkit.Webhooks.Ed25519;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>A service with every package but the one for Entity Framework Core, compiled ahead of time: what the compiler says, what it answers, how large it is and how soon it is there.</summary>
public sealed partial class NativeAotTests(NativeAotService service, PostgreSqlServer postgres) : IClassFixture<NativeAotService>, IClassFixture<PostgreSqlServer>
{
    private const string Body = """{"type":"payment.captured"}""";

    private readonly string _secret = WebhookKey.NewSecret();
    private readonly (string PrivateKey, string PublicKey) _pair = Ed25519WebhookKey.NewPair();

    [Fact]
    public void The_compiler_warns_of_nothing_of_ours_and_the_readme_names_who_else_it_warns_of()
    {
        string[] warnings = [.. service.Output.Split('\n').Where(line => line.Contains("warning", StringComparison.OrdinalIgnoreCase))];

        IEnumerable<string> unnamed = warnings.Where(line => AssemblyWarning().Match(line) is var match
            && (!match.Success || !Repository.Read("README.md").Contains($"`{match.Groups["assembly"].Value}`", StringComparison.Ordinal)));

        File.Exists(service.Program).Should().BeTrue();
        warnings.Where(line => line.Contains("Backend.Toolkit", StringComparison.Ordinal) || line.Contains("NativeAot", StringComparison.Ordinal)).ShouldBeNone();
        unnamed.ShouldBeNone("third parties that warn are named");
    }

    [Fact]
    public async Task The_service_answers_through_every_package()
    {
        await using RedisServer redis = await RedisServer.StartAsync();
        await using Server server = await Server.StartAsync(service.Program, [.. Arguments(), "--redis", redis.ConnectionString, "--postgres", postgres.ConnectionString()]);
        HttpClient client = server.Client;
        await using var receiver = new Receiver();
        receiver.Secret = await ReadAsync(await client.PostAsJsonAsync("subscriptions", new { url = await receiver.StartAsync() }), HttpStatusCode.OK);

        using (JsonDocument page = JsonDocument.Parse(await client.GetStringAsync("orders?limit=2")))
        {
            page.RootElement.GetProperty("items").EnumerateArray().Select(order => order.GetProperty("id").GetInt32()).Should().Equal(50, 49);
            using JsonDocument next = JsonDocument.Parse(await client.GetStringAsync($"orders?cursor={page.RootElement.GetProperty("next")}"));
            next.RootElement.GetProperty("items").EnumerateArray().Select(order => order.GetProperty("id").GetInt32()).Should().Equal(48, 47, 46, 45, 44);
        }

        foreach (string store in new[] { "memory", "sqlite", "redis", "postgres" })
        {
            using HttpResponseMessage first = await OrderAsync(client, store);
            using HttpResponseMessage second = await OrderAsync(client, store);

            string order = await ReadAsync(first, HttpStatusCode.Created);
            first.Headers.Contains("Idempotent-Replayed").Should().BeFalse();
            (await ReadAsync(second, HttpStatusCode.Created)).Should().Be(order);
            second.Headers.GetValues("Idempotent-Replayed").Should().Equal("true");
            await Server.UntilAsync(() => Task.FromResult(receiver.Verified.Contains(order)), () => $"{order} is delivered; refused: {receiver.Refused}");
        }

        (await StatusesAsync(client, "limited", 3)).Should().Equal(HttpStatusCode.OK, HttpStatusCode.OK, HttpStatusCode.TooManyRequests);
        (await StatusesAsync(client, "few", 4)).Should().Equal(HttpStatusCode.OK, HttpStatusCode.OK, HttpStatusCode.OK, HttpStatusCode.TooManyRequests);
        (await StatusesAsync(client, "shared", 3)).Should().Equal(HttpStatusCode.OK, HttpStatusCode.OK, HttpStatusCode.TooManyRequests);
        (await ReadAsync(await SendAsync(client, HttpMethod.Get, "budget"), HttpStatusCode.OK)).Should().Be("7000");
        (await ReadAsync(await SendAsync(client, HttpMethod.Get, "budget", ("Timeout-Budget", "4000")), HttpStatusCode.OK)).Should().Be("4000");
        (await ReadAsync(await SendAsync(client, HttpMethod.Post, "outbound"), HttpStatusCode.OK)).Should().Be("asked 2 times");
        (await ReadAsync(await SendAsync(client, HttpMethod.Get, "work"), HttpStatusCode.OK)).Should().Be("tried 2 times");

        foreach ((string verifier, string key) in new[] { ("payments", _secret), ("partner", _pair.PrivateKey) })
        {
            (await ReadAsync(await HookAsync(client, verifier, key, Body), HttpStatusCode.OK)).Should().Be("handled msg_1");
            (await ReadAsync(await HookAsync(client, verifier, key, Body), HttpStatusCode.OK)).Should().BeEmpty("it was handled before");
            (await HookAsync(client, verifier, key, Body + " ")).StatusCode.Should().Be(HttpStatusCode.Unauthorized);
        }
    }

    [Fact]
    public async Task A_wrong_value_for_each_package_stops_the_start_and_each_is_told()
    {
        (string Setting, string Sentence)[] wrong =
        [
            ("Work:Budget:Total=-00:00:01", "work: Total must be "),
            ("Work:Retry:MaxAttempts=0", "work: MaxAttempts must be between 1 and 100, but is 0."),
            ("Work:Circuit:FailureRatio=1.5", "work: FailureRatio must be greater than 0 and at most 1, but is 1.5."),
            ("RequestBudget:MinimumBudget=-00:00:01", "request: MinimumBudget must be "),
            ("RateLimits:client:Capacity=1", "client: Capacity must be between 64 and 67108864, but is 1."),
            ("RateLimits:shared:LeaseSize=-1", "shared: LeaseSize must be "),
            ("HttpIdempotency:HeaderName=a b", "http: HeaderName must be the name of a header, but is 'a b'."),
            ("Idempotency:Lease=00:00:00", "sqlite: Lease must be between "),
            ("IdempotencyStores:sqlite:CleanupBatch=0", "sqlite: CleanupBatch must be "),
            ("IdempotencyStores:redis:Replicas=-1", "redis: Replicas must be "),
            ("IdempotencyStores:postgres:Table=No", "postgres: Table must be 1 to 50 letters (a to z), digits and underscores, no digit first, but is 'No'."),
            ("Cursors:MaxSize=0", "default: MaxSize must be between 1 and 1000000, but is 0."),
            ("HttpPagination:SizeParameter=cursor", "pages: SizeParameter must be another name than CursorParameter, but is 'cursor' too."),
            ("WebhookVerifiers:payments:Tolerance=00:00:00", "payments: Tolerance must be between 00:00:01 and 1.00:00:00, but is 00:00:00."),
            ("WebhookVerifiers:partner:Keys:0:Secret=whpk_abc", "partner: Keys[0] Secret cannot be read: "),
            ("WebhookReceiving:MaxBodyBytes=-1", "receiving: MaxBodyBytes must be "),
            ("Webhooks:MaxConcurrency=1", "default: MaxConcurrency must be between 2 and 10000, but is 1."),
            ("WebhookStores:sqlite:ConnectionString=", "default: ConnectionString must be a connection string such as Data Source=shop.db, but is empty."),
            ("OutboundPolicies:flaky:RequestBufferLimit=-1", "flaky: RequestBufferLimit must be between 0 and 2147483647, but is -1."),
        ];

        (int exitCode, string output) = await Server.FailAsync(service.Program,
            [.. Arguments(), "--redis", "127.0.0.1:1,abortConnect=false,connectTimeout=100", "--postgres", "Host=127.0.0.1;Port=1", .. wrong.Select(value => $"--{value.Setting}")]);

        exitCode.Should().NotBe(0);
        wrong.Where(value => !output.Contains(value.Sentence, StringComparison.Ordinal)).Select(value => value.Sentence).ShouldBeNone($"all are told in\n{output}");
    }

    [Fact]
    public async Task It_is_there_sooner_than_with_a_compiler_at_run_time()
    {
        TimeSpan[] native = await StartUpsAsync(service.Program);
        TimeSpan[] compiled = await StartUpsAsync("dotnet", service.CompiledAtRunTime);

        string numbers = string.Create(CultureInfo.InvariantCulture,
            $"{new FileInfo(service.Program).Length / 1e6:0.0} MB, first answer after {Median(native):0} ms (median of {native.Length}), with the JIT after {Median(compiled):0} ms; {RuntimeInformation.RuntimeIdentifier}, {Environment.ProcessorCount} cores");
        TestContext.Current.TestOutputHelper!.WriteLine(numbers);
        Median(native).Should().BeLessThan(Median(compiled), numbers);
    }

    private string[] Arguments() =>
        ["--data", service.NewDataFolder(), "--WebhookVerifiers:payments:Keys:0:Secret", _secret, "--WebhookVerifiers:partner:Keys:0:Secret", _pair.PublicKey];

    private async Task<TimeSpan[]> StartUpsAsync(string program, params string[] arguments)
    {
        var startUps = new TimeSpan[5];
        for (int i = 0; i < startUps.Length; i++)
        {
            await using Server server = await Server.StartAsync(program, [.. arguments, .. Arguments()]);
            startUps[i] = server.StartUp;
        }

        return startUps;
    }

    private static double Median(TimeSpan[] times) => times.Order().ElementAt(times.Length / 2).TotalMilliseconds;

    private static Task<HttpResponseMessage> OrderAsync(HttpClient client, string store) =>
        SendAsync(client, HttpMethod.Post, $"orders/{store}", JsonContent.Create(new { item = $"teapot by {store}" }), ("Idempotency-Key", "one"));

    private static Task<HttpResponseMessage> HookAsync(HttpClient client, string verifier, string key, string sent)
    {
        var options = new WebhookSignerOptions { Name = "test", Keys = { new WebhookKey(key) } };
        options.UseEd25519();
        var headers = new List<(string, string)>();
        new WebhookSigner(options).Sign(headers, static (to, name, value) => to.Add((name, value.ToString())), "msg_1", Encoding.UTF8.GetBytes(Body));
        return SendAsync(client, HttpMethod.Post, $"hooks/{verifier}", new StringContent(sent, Encoding.UTF8, "application/json"), [.. headers]);
    }

    private static async Task<HttpStatusCode[]> StatusesAsync(HttpClient client, string path, int requests)
    {
        var statuses = new HttpStatusCode[requests];
        for (int i = 0; i < requests; i++)
        {
            using HttpResponseMessage answer = await SendAsync(client, HttpMethod.Get, path, ("X-Client", "ann"));
            statuses[i] = answer.StatusCode;
        }

        return statuses;
    }

    private static Task<HttpResponseMessage> SendAsync(HttpClient client, HttpMethod method, string path, params (string Name, string Value)[] headers) => SendAsync(client, method, path, null, headers);

    private static async Task<HttpResponseMessage> SendAsync(HttpClient client, HttpMethod method, string path, HttpContent? content, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(method, path) { Content = content };
        foreach ((string name, string value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        return await client.SendAsync(request);
    }

    private static async Task<string> ReadAsync(HttpResponseMessage answer, HttpStatusCode expected)
    {
        string body = await answer.Content.ReadAsStringAsync();
        answer.StatusCode.Should().Be(expected, body);
        return body;
    }

    [GeneratedRegex(@"warning IL\d{4}: Assembly '(?<assembly>[^']+)'")]
    private static partial Regex AssemblyWarning();

    /// <summary>A customer who verifies what is delivered.</summary>
    private sealed class Receiver : IAsyncDisposable
    {
        private readonly WebApplication _app;

        public Receiver()
        {
            WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
            builder.Logging.ClearProviders();
            builder.WebHost.UseUrls("http://127.0.0.1:0");
            _app = builder.Build();
            _app.MapPost("/hook", async (HttpRequest request) =>
            {
                using var body = new MemoryStream();
                await request.Body.CopyToAsync(body);
                var verifier = new WebhookVerifier(new WebhookVerifierOptions { Name = "test", Keys = { new WebhookKey(Secret) } });
                WebhookVerification outcome = verifier.Verify(request.Headers, static (headers, name) => headers[name], body.ToArray());
                if (outcome == WebhookVerification.Valid)
                {
                    Verified.Enqueue(Encoding.UTF8.GetString(body.ToArray()));
                }
                else
                {
                    Refused = $"{outcome}";
                }
            });
        }

        public string Secret { get; set; } = "";

        public ConcurrentQueue<string> Verified { get; } = new();

        public string Refused { get; private set; } = "none";

        public async Task<string> StartAsync()
        {
            await _app.StartAsync();
            return $"{_app.Urls.Single()}/hook";
        }

        public ValueTask DisposeAsync() => _app.DisposeAsync();
    }
}
