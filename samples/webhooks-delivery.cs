#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Backend.Toolkit.Webhooks.Delivery.Sqlite/Backend.Toolkit.Webhooks.Delivery.Sqlite.csproj
#:project ../src/Backend.Toolkit.Webhooks.Delivery.PostgreSql/Backend.Toolkit.Webhooks.Delivery.PostgreSql.csproj
#:property PublishAot=false

// Webhooks out of the order's own transaction: committed and rolled back, verified by a receiver, refused endpoints, a rotation, a dead letter, a redrive, a resend.
// Run it: dotnet run samples/webhooks-delivery.cs. With a connection string in BACKEND_TOOLKIT_POSTGRES it runs over PostgreSQL, otherwise over a file of SQLite.
using System.Collections.Concurrent;
using System.Data.Common;
using System.Text;
using Backend.Toolkit.Webhooks;
using Backend.Toolkit.Webhooks.Delivery;
using Backend.Toolkit.Webhooks.Delivery.PostgreSql;
using Backend.Toolkit.Webhooks.Delivery.Sqlite;
using Microsoft.AspNetCore.DataProtection;
using Microsoft.Data.Sqlite;
using Npgsql;

string? postgres = Environment.GetEnvironmentVariable("BACKEND_TOOLKIT_POSTGRES");
string file = Path.Combine(Path.GetTempPath(), $"backend-toolkit-sample-{Guid.NewGuid():N}.db");

// A receiver, as a customer has it: it verifies, and refuses all when it is told to be broken.
var received = new ConcurrentQueue<string>();
var secrets = new ConcurrentQueue<string>();
bool isBroken = false;
WebApplicationBuilder receiverBuilder = WebApplication.CreateSlimBuilder();
receiverBuilder.WebHost.UseUrls("http://127.0.0.1:0");
receiverBuilder.Logging.ClearProviders();
await using WebApplication receiver = receiverBuilder.Build();
receiver.MapPost("/hooks", async (HttpRequest request) =>
{
    using var body = new MemoryStream();
    await request.Body.CopyToAsync(body);
    var verifier = new WebhookVerifier(new WebhookVerifierOptions { Name = "customer", Keys = { new WebhookKey(secrets.Last()) } });
    bool valid = verifier.Verify(request.Headers, static (headers, name) => headers[name], body.ToArray()) == WebhookVerification.Valid;
    if (isBroken || !valid)
    {
        return Results.StatusCode(valid ? 500 : 401);
    }

    received.Enqueue($"{request.Headers["webhook-id"]} {Encoding.UTF8.GetString(body.ToArray())}");
    return Results.Ok();
});
await receiver.StartAsync();

// The sender.
WebApplicationBuilder builder = WebApplication.CreateBuilder(args);

builder.Configuration["ConnectionStrings:Shop"] = postgres ?? $"Data Source={file}";
builder.Configuration["Hook"] = $"{receiver.Urls.First()}/hooks";
builder.Logging.ClearProviders();
builder.WebHost.UseUrls("http://127.0.0.1:0");
if (postgres is null)
{
    string database = builder.Configuration.GetConnectionString("Shop") ?? "Data Source=shop.db";
    builder.Services.AddSqliteWebhookDeliveryStore(o => o.ConnectionString = database);
}
else
{
    string database = builder.Configuration.GetConnectionString("Shop") ?? "Host=127.0.0.1;Username=postgres";
    builder.Services.AddSingleton(NpgsqlDataSource.Create(database));
    builder.Services.AddPostgreSqlWebhookDeliveryStore();
}

builder.Services.AddDataProtection();
builder.Services.AddWebhookDelivery((o, provider) =>
{
    var protector = provider.GetRequiredService<IDataProtectionProvider>().CreateProtector("webhooks");
    o.Protect = secret => Convert.ToBase64String(protector.Protect(Encoding.UTF8.GetBytes(secret)));
    o.Unprotect = stored => Encoding.UTF8.GetString(protector.Unprotect(Convert.FromBase64String(stored)));
});

// For this sample alone: keys that are kept nowhere, a receiver on loopback, and three attempts within a second.
builder.Services.AddDataProtection().UseEphemeralDataProtectionProvider();
builder.Services.Configure<WebhookDeliveryOptions>(o =>
{
    o.AllowHttp = true;
    o.AllowedNetworks.Add("127.0.0.1/32");
    o.Schedule = [TimeSpan.Zero, TimeSpan.FromMilliseconds(200), TimeSpan.FromMilliseconds(200)];
    o.FirstPause = TimeSpan.FromMilliseconds(50);
});

await using WebApplication app = builder.Build();
await app.StartAsync();
var endpoints = app.Services.GetRequiredService<WebhookEndpoints>();
var outbox = app.Services.GetRequiredService<WebhookOutbox>();

var deliveries = app.Services.GetRequiredService<WebhookDeliveries>();

Console.WriteLine("1. A customer's endpoint; what leads inside is refused with a reason.");

string url = builder.Configuration["Hook"] ?? "https://customer.example/hooks";
NewWebhookEndpoint created = await endpoints.CreateAsync("customer-42", url, ["order.created", "order.paid"]);

secrets.Enqueue(created.Secret);
foreach (string bad in new[] { "http://10.0.0.1/", "http://[::ffff:169.254.169.254]/", "http://１２７.0.０.１/", "https://user@example.com/", "ftp://example.com/" })
{
    try
    {
        await endpoints.CreateAsync("customer-42", bad);
    }
    catch (WebhookEndpointRefusedException refused)
    {
        Console.WriteLine($"   {bad}: {refused.Message}");
    }
}

Console.WriteLine("2. An order and its event are one commit; what is rolled back is not sent.");

if (postgres is null)
{
    string database = $"Data Source={file}";

    // What the event tells of is written in the same transaction.
    await using var connection = new SqliteConnection(database);
    await connection.OpenAsync();
    await using DbTransaction transaction = await connection.BeginTransactionAsync();
    await outbox.EnqueueAsync(new WebhookEvent("order.paid", """{"order":"4710"}"""u8.ToArray(), "customer-42"), transaction);
    await transaction.CommitAsync();
}
else
{
    // What the event tells of is written in the same transaction.
    await using NpgsqlConnection connection = await app.Services.GetRequiredService<NpgsqlDataSource>().OpenConnectionAsync();
    await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync();
    await outbox.EnqueueAsync(new WebhookEvent("order.paid", """{"order":"4710"}"""u8.ToArray(), "customer-42"), transaction);
    await transaction.CommitAsync();
}

await using DbConnection shop = postgres is null ? new SqliteConnection($"Data Source={file}") : new NpgsqlConnection(postgres);
await shop.OpenAsync();
await ExecuteAsync("CREATE TABLE IF NOT EXISTS sample_orders (id text PRIMARY KEY)", null);
await PlaceAsync("4711", commits: true);
await PlaceAsync("4712", commits: false);
await UntilAsync(() => received.Count == 2, "the events arrive");
Console.WriteLine($"   received: {string.Join(", ", received)}");

Console.WriteLine("3. The secret is rotated: for a day each attempt is signed with both.");
secrets.Enqueue(await endpoints.RotateSecretAsync(created.Endpoint.Id, overlap: TimeSpan.FromDays(1)));
await endpoints.SendTestAsync(created.Endpoint.Id);
await UntilAsync(() => received.Count == 3, "the test event arrives");

Console.WriteLine("4. A receiver that is broken gets dead letters, which are redriven when it is well.");
isBroken = true;
await PlaceAsync("4713", commits: true);
WebhookDelivery dead = await FindAsync(new WebhookDeliveryFilter(Audience: "customer-42", State: WebhookDeliveryState.Dead));
foreach (WebhookAttempt attempt in await deliveries.ListAttemptsAsync(dead.Id))
{
    Console.WriteLine($"   attempt: status {attempt.Status}");
}

Console.WriteLine($"   dead letter: {dead.DeadReason}");
isBroken = false;
long redriven = await deliveries.RedriveAsync(new WebhookDeliveryFilter(Audience: "customer-42"), perSecond: 50);
await UntilAsync(() => received.Count == 4, "the redriven event arrives");
Console.WriteLine($"   redriven: {redriven}");

Console.WriteLine("5. One that was delivered is sent again under the same id.");
WebhookDelivery delivered = await FindAsync(new WebhookDeliveryFilter(Audience: "customer-42", EventType: "order.created", State: WebhookDeliveryState.Delivered));
await deliveries.ResendAsync(delivered.Id);
await UntilAsync(() => received.Count == 5, "the resent event arrives");
Console.WriteLine($"   received with id {delivered.EventId}: {received.Count(text => text.StartsWith(delivered.EventId, StringComparison.Ordinal))} times");

await app.StopAsync();

await app.WaitForShutdownAsync();

await shop.CloseAsync();
SqliteConnection.ClearAllPools();
File.Delete(file);
Console.WriteLine("Shown: one commit for order and event, signed attempts, refused endpoints, a rotation, dead letters, a redrive and a resend.");

async Task PlaceAsync(string order, bool commits)
{
    await using DbTransaction transaction = await shop.BeginTransactionAsync();
    await ExecuteAsync($"INSERT INTO sample_orders (id) VALUES ('{order}-{Guid.NewGuid():N}')", transaction);
    byte[] payload = Encoding.UTF8.GetBytes($$"""{"order":"{{order}}"}""");
    await outbox.EnqueueAsync(new WebhookEvent("order.created", payload, "customer-42", OrderKey: order), transaction);
    await (commits ? transaction.CommitAsync() : transaction.RollbackAsync());
}

async Task ExecuteAsync(string text, DbTransaction? transaction)
{
    await using DbCommand command = shop.CreateCommand();
    command.CommandText = text;
    command.Transaction = transaction;
    await command.ExecuteNonQueryAsync();
}

async Task<WebhookDelivery> FindAsync(WebhookDeliveryFilter filter)
{
    WebhookDelivery? found = null;
    await UntilAsync(() => (found = deliveries.ListAsync(filter, limit: 1).AsTask().Result.FirstOrDefault()) is not null, "a delivery is there");
    return found!;
}

static async Task UntilAsync(Func<bool> condition, string what)
{
    for (int i = 0; !condition(); i++)
    {
        await Task.Delay(20);
        if (i > 1500)
        {
            throw new TimeoutException(what);
        }
    }
}
