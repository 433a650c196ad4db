// A service with every package, compiled ahead of time: tests publish it, call it, and measure its size and how soon it answers.
//   --data FOLDER   where its SQLite files are    --redis HOST:PORT, --postgres CONNECTION   further stores, when there are any
using System.Text.Json;
using System.Text.Json.Serialization;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.Http;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.AspNetCore;
using Backend.Toolkit.Idempotency.PostgreSql;
using Backend.Toolkit.Idempotency.Redis;
using Backend.Toolkit.Idempotency.Sqlite;
using Backend.Toolkit.Pagination;
using Backend.Toolkit.Pagination.AspNetCore;
using Backend.Toolkit.RateLimiting;
using Backend.Toolkit.RateLimiting.AspNetCore;
using Backend.Toolkit.RateLimiting.Redis;
using Backend.Toolkit.RetryPolicies;
using Backend.Toolkit.TimeoutBudgets;
using Backend.Toolkit.TimeoutBudgets.AspNetCore;
using Backend.Toolkit.Webhooks;
using Backend.Toolkit.Webhooks.AspNetCore;
using Backend.Toolkit.Webhooks.Delivery;
using Backend.Toolkit.Webhooks.Delivery.PostgreSql;
using Backend.Toolkit.Webhooks.Delivery.Sqlite;
using Backend.Toolkit.Webhooks.Ed25519;
using Npgsql;
using StackExchange.Redis;

WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { Args = args, ContentRootPath = AppContext.BaseDirectory });
IServiceCollection services = builder.Services;
string data = builder.Configuration["data"] ?? throw new ArgumentException("--data must name a folder for the SQLite files, but is missing.");
string? redis = builder.Configuration["redis"];
string? postgres = builder.Configuration["postgres"];
services.ConfigureHttpJsonOptions(json => json.SerializerOptions.TypeInfoResolverChain.Insert(0, ServiceJson.Default));

// The leaves by themselves.
services.AddTimeoutBudget("work");
services.AddOptions<TimeoutBudgetOptions>("work").BindConfiguration("Work:Budget");
services.AddRetryBudget("work");
services.AddOptions<RetryBudgetOptions>("work").BindConfiguration("Work:RetryBudget");
services.AddRetryPolicy("work", (o, provider) => o.Budget = provider.GetRequiredKeyedService<RetryBudget>("work"));
services.AddOptions<RetryPolicyOptions>("work").BindConfiguration("Work:Retry");
services.AddCircuitBreaker("work");
services.AddOptions<CircuitBreakerOptions>("work").BindConfiguration("Work:Circuit");

// Inbound.
services.AddTimeoutBudgets();
services.AddOptions<RequestBudgetOptions>().BindConfiguration("RequestBudget");
services.AddRateLimits();
services.AddTokenBucketLimiter<HttpContext>("client", RateLimitKeys.Header("X-Client"));
services.AddOptions<KeyedTokenBucketLimiterOptions<HttpContext>>("client").BindConfiguration("RateLimits:client");
services.AddSlidingWindowLimiter<HttpContext>("few", RateLimitKeys.IpPrefix);
services.AddOptions<KeyedSlidingWindowLimiterOptions<HttpContext>>("few").BindConfiguration("RateLimits:few");
services.AddHttpIdempotency();
services.AddOptions<HttpIdempotencyOptions>().BindConfiguration("HttpIdempotency");
services.AddCursorPagination();
services.AddOptions<CursorPaginatorOptions>().BindConfiguration("Cursors");
services.AddHttpPagination();
services.AddOptions<HttpPaginationOptions>().BindConfiguration("HttpPagination");
services.AddWebhookReceiving();
services.AddOptions<WebhookReceivingOptions>().BindConfiguration("WebhookReceiving");
services.AddWebhookReplayGuard("payments");
services.AddOptions<WebhookReplayGuardOptions>("payments").BindConfiguration("WebhookReplayGuards:payments");
services.AddWebhookVerifier("payments");
services.AddOptions<WebhookVerifierOptions>("payments").BindConfiguration("WebhookVerifiers:payments");
services.AddWebhookReplayGuard("partner");
services.AddWebhookVerifier("partner", o => o.UseEd25519());
services.AddOptions<WebhookVerifierOptions>("partner").BindConfiguration("WebhookVerifiers:partner");

// A store for each way to keep keys, and an executor on it.
List<string> stores = ["memory", "sqlite"];
services.AddMemoryIdempotencyStore("memory");
services.AddOptions<MemoryIdempotencyStoreOptions>("memory").BindConfiguration("IdempotencyStores:memory");
services.AddSqliteIdempotencyStore("sqlite", o => o.ConnectionString = $"Data Source={Path.Combine(data, "keys.db")}");
services.AddOptions<SqliteIdempotencyStoreOptions>("sqlite").BindConfiguration("IdempotencyStores:sqlite");

// The generator warns of connections and data sources, which are no values: these options are set in code.
if (redis is not null)
{
    stores.Add("redis");
    services.AddSingleton<IConnectionMultiplexer>(_ => ConnectionMultiplexer.Connect(redis));
    services.AddRedisIdempotencyStore("redis", o => o.Replicas = builder.Configuration.GetValue<int>("IdempotencyStores:redis:Replicas"));
    services.AddRedisTokenBucketLimiter<HttpContext>("shared", RateLimitKeys.IpPrefix, o =>
    {
        o.Limits.Add(new RateLimit(2, TimeSpan.FromMinutes(1)));
        o.StoreTimeout = TimeSpan.FromSeconds(5);
        o.LeaseSize = builder.Configuration.GetValue<int>("RateLimits:shared:LeaseSize");
    });
}

if (postgres is not null)
{
    stores.Add("postgres");
    services.AddSingleton(_ => new NpgsqlSlimDataSourceBuilder(postgres).EnableArrays().Build());
    services.AddPostgreSqlIdempotencyStore("postgres", o => o.Table = builder.Configuration["IdempotencyStores:postgres:Table"] ?? o.Table);
    services.AddPostgreSqlWebhookDeliveryStore();
}

// Deliveries are kept in the store that was added first.
services.AddSqliteWebhookDeliveryStore(o => o.ConnectionString = $"Data Source={Path.Combine(data, "webhooks.db")}");
services.AddOptions<SqliteWebhookDeliveryStoreOptions>().BindConfiguration("WebhookStores:sqlite");

foreach (string store in stores)
{
    services.AddIdempotency(store);
    services.AddOptions<IdempotencyOptions>(store).BindConfiguration("Idempotency");
}

// Outbound.
services.AddWebhookDelivery();
services.AddOptions<WebhookDeliveryOptions>().BindConfiguration("Webhooks");
services.AddHttpClient("flaky").AddOutboundPolicy();
services.AddOptions<OutboundPolicyOptions>("flaky").BindConfiguration("OutboundPolicies:flaky");

WebApplication app = builder.Build();
app.UseRateLimits();
app.UseIdempotency();
app.UseTimeoutBudgets();
app.UseWebhookVerification();

app.MapGet("/", () => "up");
Order[] orders = [.. Enumerable.Range(1, 50).Select(id => new Order(id, $"item {id}"))];
app.MapGet("/orders", (PageQuery query, CursorPaginator paginator) => orders.ToPage(paginator, Order.Newest, query.Request).ToResult());
int placed = 0;
foreach (string store in stores)
{
    app.MapPost($"/orders/{store}", async (NewOrder order, HttpContext context, WebhookOutbox outbox, CancellationToken cancellationToken) =>
    {
        IdempotentOperation operation = context.GetIdempotentOperation();
        int id = await operation.PhaseAsync("number", _ => ValueTask.FromResult(Interlocked.Increment(ref placed)), ServiceJson.Default.Int32, cancellationToken);
        var created = new Order(id, order.Item);
        await outbox.EnqueueAsync(new WebhookEvent("order.created", JsonSerializer.SerializeToUtf8Bytes(created, ServiceJson.Default.Order), "customers"), cancellationToken);
        return Results.Created($"/orders/{id}", created);
    }).RequireIdempotency(store);
}

app.MapGet("/limited", () => "admitted").RequireRateLimit("client");
app.MapGet("/few", () => "admitted").RequireRateLimit("few");
if (redis is not null)
{
    app.MapGet("/shared", () => "admitted").RequireRateLimit("shared");
}

app.MapGet("/budget", () => $"{TimeoutBudget.Current?.Total.TotalMilliseconds}");
app.MapPost("/hooks/payments", (HttpContext context) => $"handled {context.GetVerifiedWebhook().Id}").VerifyWebhook("payments");
app.MapPost("/hooks/partner", (HttpContext context) => $"handled {context.GetVerifiedWebhook().Id}").VerifyWebhook("partner");
app.MapPost("/subscriptions", async (Subscription subscription, WebhookEndpoints endpoints, CancellationToken cancellationToken) =>
    (await endpoints.CreateAsync("customers", subscription.Url, cancellationToken: cancellationToken)).Secret);

int asked = 0;
app.MapPost("/flaky", () => Interlocked.Increment(ref asked) % 2 == 1 ? Results.StatusCode(503) : Results.Text($"asked {asked} times"));
app.MapPost("/outbound", async (IHttpClientFactory clients, CancellationToken cancellationToken) =>
{
    using HttpClient client = clients.CreateClient("flaky");
    using HttpResponseMessage answer = await client.PostAsync(new Uri($"{app.Urls.First()}/flaky"), null, cancellationToken);
    return await answer.Content.ReadAsStringAsync(cancellationToken);
});

int tried = 0;
app.MapGet("/work", async ([FromKeyedServices("work")] TimeoutBudgetPolicy budget, [FromKeyedServices("work")] RetryPolicy retry, [FromKeyedServices("work")] CircuitBreaker circuit, CancellationToken cancellationToken) =>
    await budget.ExecuteAsync(token => retry.ExecuteAsync(token => circuit.ExecuteAsync(_ => ++tried == 1 ? throw new IOException("not yet") : ValueTask.FromResult($"tried {tried} times"), token), token), cancellationToken));

app.Run();

internal sealed record NewOrder(string Item);

internal sealed record Subscription(string Url);

internal sealed record Order(int Id, string Item)
{
    public static Keyset<Order> Newest { get; } = Keyset.For<Order>().Unique(order => order.Id, direction: SortDirection.Descending);
}

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web)]
[JsonSerializable(typeof(int))]
[JsonSerializable(typeof(string))]
[JsonSerializable(typeof(NewOrder))]
[JsonSerializable(typeof(Subscription))]
[JsonSerializable(typeof(Page<Order>))]
internal sealed partial class ServiceJson : JsonSerializerContext;
