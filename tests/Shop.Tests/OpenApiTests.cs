using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Backend.Toolkit.Tests;
using Backend.Toolkit.Webhooks;
using Microsoft.AspNetCore.Http.Metadata;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.OpenApi;
using Microsoft.OpenApi.Reader;
using Npgsql;

namespace Shop.Tests;

/// <summary>The document at /openapi/v1.json tells the truth about every endpoint.</summary>
public sealed partial class OpenApiTests(PostgreSqlServer postgreSql)
{
    private static readonly string[] Tables = ["orders", "webhook_endpoints", "webhook_events", "webhook_deliveries", "webhook_attempts"];

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task The_document_is_valid_OpenAPI_says_its_version_and_counts_against_no_limit(bool plain)
    {
        await using RunningShop shop = await RunningShop.StartAsync($"--plain={plain}");

        using HttpResponseMessage response = await shop.Client.GetAsync("openapi/v1.json");
        ReadResult read = OpenApiDocument.Parse(await response.Content.ReadAsStringAsync(), "json");

        read.Diagnostic!.Errors.Should().BeEmpty();
        read.Diagnostic.SpecificationVersion.Should().Be(OpenApiSpecVersion.OpenApi3_1);
        read.Document!.Info.Version.Should().Be("0.1.0");
        response.Content.Headers.ContentType!.MediaType.Should().Be("application/json");
        response.Headers.Should().NotContain(header => header.Key.StartsWith("RateLimit", StringComparison.Ordinal));
        IOpenApiResponse placed = read.Document.Paths["/orders"].Operations![HttpMethod.Post].Responses!["201"];
        (placed.Headers!.ContainsKey("RateLimit"), placed.Headers.ContainsKey("Idempotent-Replayed")).Should().Be((!plain, !plain));
    }

    [Fact]
    public async Task Every_endpoint_is_described_except_pages_and_what_they_consist_of()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        OpenApiDocument document = await DocumentAsync(shop);
        RouteEndpoint[] endpoints = [.. shop.Services.GetRequiredService<EndpointDataSource>().Endpoints.OfType<RouteEndpoint>()];

        RouteEndpoint[] left = [.. endpoints.Where(endpoint => endpoint.Metadata.GetMetadata<IExcludeFromDescriptionMetadata>()?.ExcludeFromDescription == true)];
        string[] described = [.. document.Paths.SelectMany(path => path.Value.Operations!.Keys.Select(method => $"{method} {path.Key}"))];

        described.Should().BeEquivalentTo(endpoints.Except(left).SelectMany(endpoint => endpoint.Metadata.GetRequiredMetadata<HttpMethodMetadata>().HttpMethods
            .Select(method => $"{method} /{Constraint().Replace(endpoint.RoutePattern.RawText!.TrimStart('/'), "}")}")));
        described.Should().HaveCountGreaterThanOrEqualTo(7);
        foreach (RouteEndpoint endpoint in left)
        {
            endpoint.Metadata.GetRequiredMetadata<HttpMethodMetadata>().HttpMethods.Should().Equal(["GET"], $"{endpoint} is left out, so it changes nothing");
            using HttpResponseMessage page = await shop.Client.GetAsync(endpoint.RoutePattern.RawText!.Replace("{documentName}", "v1", StringComparison.Ordinal), HttpCompletionOption.ResponseHeadersRead);
            page.StatusCode.Should().Be(HttpStatusCode.OK, $"{endpoint} is left out");
            if (!endpoint.RoutePattern.RawText.Contains("openapi", StringComparison.Ordinal))
            {
                page.Content.Headers.ContentType!.MediaType.Should().NotBe("application/json", $"{endpoint} is left out, so it is a page or a part of one");
            }
        }
    }

    [Fact]
    public async Task Every_operation_tells_its_limits_its_budget_and_the_shops_own_failure()
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        OpenApiDocument document = await DocumentAsync(shop);

        foreach ((string path, HttpMethod method, OpenApiOperation operation) in document.Paths.SelectMany(path => path.Value.Operations!.Select(operation => (path.Key, operation.Key, operation.Value))))
        {
            string what = $"{method} {path}";
            operation.Summary.Should().NotBeNullOrEmpty(what);
            operation.Responses!.Keys.Should().Contain(["500", "503", "504"], what);
            operation.Parameters!.Should().Contain(parameter => parameter.Name == "Timeout-Budget" && parameter.In == ParameterLocation.Header && (path == "/events" || parameter.Description!.Contains("2500")), what);
            operation.Responses.Should().OnlyContain(response => (response.Key[0] == '2' || response.Key[0] == '3') != (response.Value.Content ?? new Dictionary<string, OpenApiMediaType>()).ContainsKey("application/problem+json"), what);
            bool isLimited = path is not ("/state" or "/webhooks/payments" or "/events") && !path.StartsWith("/controls", StringComparison.Ordinal);
            operation.Responses.ContainsKey("429").Should().Be(isLimited || operation.RequestBody is not null, what);
            operation.Responses.Should().OnlyContain(response => (response.Value.Headers != null && response.Value.Headers.ContainsKey("RateLimit")) == (response.Key != "500" && (isLimited || response.Key == "415" || response.Key == "429")), what);
        }
    }

    [Theory]
    [InlineData("""{"item":"teapot","cents":1250}""", HttpStatusCode.Created)]
    [InlineData("""{"item":"teapot","cents":1}""", HttpStatusCode.Created)]
    [InlineData("""{"item":"t","cents":1000000}""", HttpStatusCode.PaymentRequired)]
    [InlineData("""{"item":"teapot","cents":0}""", HttpStatusCode.BadRequest)]
    [InlineData("""{"item":"teapot","cents":1000001}""", HttpStatusCode.BadRequest)]
    [InlineData("""{"item":"teapot","cents":12.5}""", HttpStatusCode.BadRequest)]
    [InlineData("""{"item":"teapot","cents":"1250"}""", HttpStatusCode.BadRequest)]
    [InlineData("""{"item":"","cents":1250}""", HttpStatusCode.BadRequest)]
    [InlineData("""{"item":null,"cents":1250}""", HttpStatusCode.BadRequest)]
    [InlineData("""{"cents":1250}""", HttpStatusCode.BadRequest)]
    [InlineData("""{"item":"teapot"}""", HttpStatusCode.BadRequest)]
    [InlineData("[]", HttpStatusCode.BadRequest)]
    [InlineData("null", HttpStatusCode.BadRequest)]
    public async Task The_schema_of_an_order_demands_what_the_shop_demands(string order, HttpStatusCode status)
    {
        await using RunningShop shop = await RunningShop.StartAsync("--OutboundPolicies:payments:Budget:Total=00:00:20", "--RequestBudget:Maximum=00:00:30");
        IOpenApiRequestBody body = (await DocumentAsync(shop)).Paths["/orders"].Operations![HttpMethod.Post].RequestBody!;

        using HttpResponseMessage response = await shop.PostOrderAsync(new StringContent(order, Encoding.UTF8, "application/json"), "key");
        using HttpResponseMessage tooLong = await shop.OrderAsync(new string('x', 101));

        response.StatusCode.Should().Be(status);
        IOpenApiSchema schema = body.Content!["application/json"].Schema!;
        Contract.Problems(schema, JsonDocument.Parse(order).RootElement, "$").Any().Should().Be(status == HttpStatusCode.BadRequest);
        (tooLong.StatusCode, Contract.Problems(schema, JsonSerializer.SerializeToElement(new { item = new string('x', 101), cents = 1 }), "$").Count()).Should().Be((HttpStatusCode.BadRequest, 1));
        body.Required.Should().BeTrue();
    }

    [Fact]
    public async Task The_parameters_of_a_list_and_the_key_of_an_order_are_described_with_their_ranges()
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        OpenApiDocument document = await DocumentAsync(shop);

        Dictionary<string, IOpenApiParameter> list = document.Paths["/orders"].Operations![HttpMethod.Get].Parameters!.ToDictionary(parameter => parameter.Name!);
        list.Keys.Should().BeEquivalentTo("status", "cursor", "size", "Timeout-Budget");
        list.Values.Should().OnlyContain(parameter => !parameter.Required);
        list["status"].Schema!.Enum!.Select(word => (string?)word).Should().Equal("pending", "paid", "declined");
        (list["size"].Schema!.Type, list["size"].Schema!.Minimum).Should().Be((JsonSchemaType.Integer, "0"));
        IOpenApiParameter key = document.Paths["/orders"].Operations![HttpMethod.Post].Parameters!.Single(parameter => parameter.Name == "Idempotency-Key");
        (key.In, key.Required, key.Schema!.MinLength).Should().Be((ParameterLocation.Header, true, 1));
        IOpenApiParameter id = document.Paths["/orders/{id}"].Operations![HttpMethod.Get].Parameters!.Single(parameter => parameter.Name == "id");
        (id.In, id.Required, id.Schema!.Format).Should().Be((ParameterLocation.Path, true, "uuid"));
    }

    [Fact]
    public async Task Everything_that_orders_and_webhooks_answer_is_in_the_document_and_everything_in_it_comes()
    {
        string database = await postgreSql.NewDatabaseAsync();
        await using RunningShop shop = await RunningShop.StartAsync(
            $"--postgres={database}", "--WebhookReceiving:MaxBodyBytes=2000", "--WebhookReceiving:MaxUnverifiedBytes=2000", "--WebhookReceiving:ReadTimeout=00:00:04", "--WebhookReceiving:MaxRunTime=00:00:05",
            "--Idempotency:orders:MaxWait=00:00:00.100", "--OutboundPolicies:payments:Budget:Total=00:00:06", "--RequestBudget:Maximum=00:00:08", "--OutboundPolicies:payments:CircuitBreaker:BreakDuration=00:10:00", "--OutboundPolicies:payments:CircuitBreaker:MaxBreakDuration=00:10:00");
        await using RunningShop strict = await RunningShop.StartAsync("--RateLimits:client:Limits:0:Permits=1", "--RateLimits:client:Limits:0:Period=01:00:00", "--RateLimits:client:Limits:0:Burst=1");
        var contract = new Contract(await DocumentAsync(shop));
        await using var source = NpgsqlDataSource.Create(database);
        using var client = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false }) { BaseAddress = shop.Client.BaseAddress, Timeout = TimeSpan.FromSeconds(30) };

        // What goes well, and what is the client's own fault.
        (await CheckOrderAsync(key: "paid")).Should().Be(201);
        (await CheckOrderAsync(key: "paid")).Should().Be(201);
        (await CheckOrderAsync(key: "senseless", cents: 0)).Should().Be(400);
        (await CheckOrderAsync(key: "senseless", cents: 0)).Should().Be(400);
        (await CheckOrderAsync(key: "")).Should().Be(400);
        (await CheckOrderAsync(key: "dear", cents: 500_000)).Should().Be(402);
        (await CheckOrderAsync(key: "dear", cents: 500_000)).Should().Be(402);
        (await CheckOrderAsync(key: $"{Guid.CreateVersion7(TimeProvider.System.GetUtcNow().AddDays(-2))}")).Should().Be(412);
        (await CheckOrderAsync(key: "long", item: new string('x', 20_000))).Should().Be(413);
        (await CheckOrderAsync(key: "text", type: "text/plain")).Should().Be(415);
        (await CheckOrderAsync(key: "text", type: "text/plain")).Should().Be(415);
        (await CheckOrderAsync(key: "paid", cents: 9)).Should().Be(422);
        Order order = (await shop.OrdersAsync()).Single(order => order.Status == OrderStatus.Paid);
        (await CheckAsync("/orders", HttpMethod.Get, "orders?size=1")).Should().Be(200);
        (await CheckAsync("/orders", HttpMethod.Get, "orders?cursor=made-up")).Should().Be(400);
        (await CheckAsync("/orders", HttpMethod.Get, "orders?size=-1")).Should().Be(400);
        (await CheckAsync("/orders", HttpMethod.Get, "orders?status=lost")).Should().Be(400);
        (await CheckAsync("/orders/{id}", HttpMethod.Get, $"orders/{order.Id}")).Should().Be(200);
        (await CheckAsync("/orders/{id}", HttpMethod.Get, $"orders/{Guid.NewGuid()}")).Should().Be(404);
        (await CheckEndpointAsync("http://127.0.0.1:6001/hook")).Should().Be(201);
        (await CheckEndpointAsync("http://10.1.2.3/")).Should().Be(400);
        (await CheckAsync("/webhooks/endpoints", HttpMethod.Post, "webhooks/endpoints", Content("""{"url":"http://127.0.0.1:6001/hook","types":[null]}"""))).Should().Be(400);
        (await CheckEndpointAsync(new string('x', 20_000))).Should().Be(413);
        (await CheckEndpointAsync("http://127.0.0.1:6001/hook", "text/plain")).Should().Be(415);
        string resend = "";
        await RealTime.UntilAsync(async () => (resend = Resend().Match(await shop.Client.GetStringAsync("webhooks")).Groups[1].Value).Length > 0, "the delivery is shown");
        (await CheckResendAsync()).Should().Be(302);
        (await CheckAsync("/webhooks/{delivery}/resend", HttpMethod.Post, "webhooks/4711/resend")).Should().Be(404);
        (await CheckResendAsync("Sec-Fetch-Site", "same-site")).Should().Be(403);
        (await CheckResendAsync("Origin", "http://127.0.0.1:1")).Should().Be(403);
        (await CheckChargeAsync("msg_first", Charge())).Should().Be(200);
        (await CheckChargeAsync("msg_first", Charge())).Should().Be(200);
        (await CheckChargeAsync("msg_senseless", "{")).Should().Be(400);
        (await CheckChargeAsync("msg_text", Charge(), "text/plain")).Should().Be(415);
        (await CheckChargeAsync("msg_long", new string(' ', 3000))).Should().Be(413);
        (await CheckAsync("/webhooks/payments", HttpMethod.Post, "webhooks/payments", Content(Charge()))).Should().Be(401);

        // Somebody sends slowly, and holds what others need.
        Task<HttpResponseMessage> slow = SendSlowlyAsync();
        await RealTime.UntilAsync(async () => await CheckChargeAsync("msg_crowded", Charge().PadRight(1500)) == 503, "there is no room for another body");
        (await contract.CheckAsync("/webhooks/payments", await slow)).Should().Be(408);
        (await contract.CheckAsync("/orders", await SendSlowlyAsync("/orders"))).Should().Be(408);
        (await contract.CheckAsync("/webhooks/endpoints", await SendSlowlyAsync("/webhooks/endpoints"))).Should().Be(408);

        // Who asks too often.
        using (HttpResponseMessage last = await strict.Client.GetAsync("orders"))
        {
            last.StatusCode.Should().Be(HttpStatusCode.OK);
        }

        (await contract.CheckAsync("/orders", await strict.OrderAsync())).Should().Be(429);
        (await contract.CheckAsync("/orders", await strict.Client.GetAsync("orders"))).Should().Be(429);
        (await contract.CheckAsync("/orders/{id}", await strict.Client.GetAsync($"orders/{order.Id}"))).Should().Be(429);
        (await contract.CheckAsync("/webhooks/payments", await strict.Client.PostAsync("webhooks/payments", Content(Charge(), "text/plain")))).Should().Be(429);
        (await contract.CheckAsync("/webhooks/endpoints", await strict.Client.PostAsJsonAsync("webhooks/endpoints", new { url = "" }))).Should().Be(429);
        (await contract.CheckAsync("/webhooks/{delivery}/resend", await strict.Client.PostAsync(resend, null))).Should().Be(429);

        // No time from the start.
        (await CheckOrderAsync(key: "hurry", budget: "0")).Should().Be(503);
        await CheckAllAsync("0", 503);

        // The database answers nobody, and then it has lost its tables.
        await using (NpgsqlConnection locking = await source.OpenConnectionAsync())
        {
            await using NpgsqlTransaction locks = await locking.BeginTransactionAsync();
            await ExecuteAsync(locking, $"LOCK TABLE {string.Join(", ", Tables)} IN ACCESS EXCLUSIVE MODE");
            (await CheckOrderAsync(key: "locked", budget: "300")).Should().Be(504);
            await CheckAllAsync("300", 504);
            string charge = Charge();
            Task both = Task.CompletedTask;
            await RealTime.UntilAsync(
                async () =>
                {
                    // On a busy machine the time of the one that waits may be over before the other comes.
                    await both;
                    Task<int>[] pair = [CheckChargeAsync("msg_twice", charge), CheckChargeAsync("msg_twice", charge)];
                    both = Task.WhenAll(pair);
                    return await await Task.WhenAny(pair) == 409;
                },
                "one is being handled, and the other one is told so");
            await locks.RollbackAsync();
            await both;
        }

        await using (NpgsqlConnection breaking = await source.OpenConnectionAsync())
        {
            await ExecuteAsync(breaking, string.Concat(Tables.Select(table => $"ALTER TABLE {table} RENAME TO lost_{table};")));
            (await CheckOrderAsync(key: "lost")).Should().Be(500);
            await CheckAllAsync(null, 500);
            await ExecuteAsync(breaking, string.Concat(Tables.Select(table => $"ALTER TABLE lost_{table} RENAME TO {table};")));
        }

        // Payments hangs, then fails, then is left alone.
        await shop.TellPaymentsAsync("hanging");
        (await Task.WhenAll(CheckOrderAsync(key: "hanging"), CheckOrderAsync(key: "hanging"))).Should().BeEquivalentTo([409, 504], "one has the key, and the other one does not wait for its end");
        await shop.TellPaymentsAsync("failing");
        (await CheckOrderAsync(key: "failing")).Should().Be(502);
        await RealTime.UntilAsync(async () => await CheckOrderAsync(key: $"{Guid.NewGuid()}") == 503, "the circuit is open");

        string.Join('\n', contract.Missing("/orders", "/webhooks")).Should().BeEmpty();

        async Task<int> CheckAsync(string path, HttpMethod method, string address, HttpContent? content = null, string? budget = null)
        {
            using var request = new HttpRequestMessage(method, address) { Content = content };
            return await SendAsync(path, request, budget);
        }

        async Task<int> SendAsync(string path, HttpRequestMessage request, string? budget)
        {
            if (budget is not null)
            {
                request.Headers.Add("Timeout-Budget", budget);
            }

            return await contract.CheckAsync(path, await client.SendAsync(request));
        }

        async Task<int> CheckOrderAsync(string key, string item = "teapot", int cents = 1250, string type = "application/json", string? budget = null)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, "orders") { Content = Content(JsonSerializer.Serialize(new { item, cents }), type) };
            request.Headers.TryAddWithoutValidation("Idempotency-Key", key);
            return await SendAsync("/orders", request, budget);
        }

        Task<int> CheckEndpointAsync(string url, string type = "application/json", string? budget = null) =>
            CheckAsync("/webhooks/endpoints", HttpMethod.Post, "webhooks/endpoints", Content(JsonSerializer.Serialize(new { url }), type), budget);

        async Task<int> CheckResendAsync(string? header = null, string? value = null)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, resend);
            if (header is not null)
            {
                request.Headers.Add(header, value);
            }

            return await SendAsync("/webhooks/{delivery}/resend", request, null);
        }

        async Task<int> CheckChargeAsync(string id, string body, string type = "application/json", string? budget = null)
        {
            using HttpRequestMessage request = SignedCharge(id, body, type);
            return await SendAsync("/webhooks/payments", request, budget);
        }

        // All but the order, which each time needs another key.
        async Task CheckAllAsync(string? budget, int status)
        {
            (await CheckAsync("/orders", HttpMethod.Get, "orders", null, budget)).Should().Be(status);
            (await CheckAsync("/orders/{id}", HttpMethod.Get, $"orders/{order.Id}", null, budget)).Should().Be(status);
            (await CheckEndpointAsync("http://127.0.0.1:6001/hook", budget: budget)).Should().Be(status);
            (await CheckAsync("/webhooks/{delivery}/resend", HttpMethod.Post, resend, null, budget)).Should().Be(status);
            (await CheckChargeAsync($"msg_{status}", Charge(), budget: budget)).Should().Be(status);
        }

        string Charge() => JsonSerializer.Serialize(new { orderId = order.Id, cents = order.Cents });

        HttpRequestMessage SignedCharge(string id, string body, string type = "application/json")
        {
            var request = new HttpRequestMessage(HttpMethod.Post, "webhooks/payments") { Content = Content(body, type) };
            Sign(shop, request.Headers, id, body);
            return request;
        }

        // A body of which the end does not come. A client of HttpClient would not look for an answer before it.
        async Task<HttpResponseMessage> SendSlowlyAsync(string path = "/webhooks/payments")
        {
            using var request = new HttpRequestMessage();
            Sign(shop, request.Headers, "msg_slow", "");
            request.Headers.Add("Idempotency-Key", "slow");
            using var connection = new TcpClient();
            await connection.ConnectAsync(client.BaseAddress!.Host, client.BaseAddress.Port);
            string headers = string.Concat(request.Headers.Select(header => $"{header.Key}: {header.Value.Single()}\r\n"));
            await connection.GetStream().WriteAsync(Encoding.ASCII.GetBytes($"POST {path} HTTP/1.1\r\nHost: {client.BaseAddress.Authority}\r\nContent-Type: application/json\r\nContent-Length: 1500\r\n{headers}Connection: close\r\n\r\n{{{new string(' ', 1400)}"));
            string text = "";
            byte[] buffer = new byte[4096];
            while (!text.Contains('}', StringComparison.Ordinal) && await connection.GetStream().ReadAsync(buffer) is > 0 and int read)
            {
                text += Encoding.UTF8.GetString(buffer, 0, read);
            }

            string[] parts = text.Split("\r\n\r\n", 2), lines = parts[0].Split("\r\n");
            string body = parts[1][parts[1].IndexOf('{', StringComparison.Ordinal)..(parts[1].LastIndexOf('}') + 1)];
            var answer = new HttpResponseMessage((HttpStatusCode)int.Parse(lines[0].Split(' ')[1], CultureInfo.InvariantCulture)) { RequestMessage = new HttpRequestMessage(HttpMethod.Post, ""), Content = new StringContent(body) };
            answer.Content.Headers.ContentType = null;
            foreach (string[] header in lines[1..].Select(line => line.Split(": ", 2)))
            {
                _ = answer.Headers.TryAddWithoutValidation(header[0], header[1]) || answer.Content.Headers.TryAddWithoutValidation(header[0], header[1]);
            }

            return answer;
        }
    }

    private static async Task<OpenApiDocument> DocumentAsync(RunningShop shop) => OpenApiDocument.Parse(await shop.Client.GetStringAsync("openapi/v1.json"), "json").Document!;

    private static StringContent Content(string body, string type = "application/json") => new(body, Encoding.UTF8, type);

    private static void Sign(RunningShop shop, HttpRequestHeaders headers, string id, string body)
    {
        var options = new WebhookSignerOptions();
        options.Keys.Add(new WebhookKey(shop.Services.GetRequiredService<Neighbours>().PaymentsSecret));
        new WebhookSigner(options).Sign(headers, static (headers, name, value) => headers.TryAddWithoutValidation(name, value.ToString()), id, Encoding.UTF8.GetBytes(body));
    }

    private static async Task ExecuteAsync(NpgsqlConnection connection, string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection);
        await command.ExecuteNonQueryAsync();
    }

    [GeneratedRegex("action=\"/(webhooks/[0-9]+/resend)\"")]
    private static partial Regex Resend();

    /// <summary>Of a route's parameter; the document has none.</summary>
    [GeneratedRegex(":[^}]+}")]
    private static partial Regex Constraint();
}
