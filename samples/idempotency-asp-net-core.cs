#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Backend.Toolkit.Idempotency.AspNetCore/Backend.Toolkit.Idempotency.AspNetCore.csproj
#:property JsonSerializerIsReflectionEnabledByDefault=false

// Idempotency over HTTP: a repeat, another request under the same key, a client that hangs up half-way, and a response that is too large to keep.
// Run it: dotnet run samples/idempotency-asp-net-core.cs
using System.Text.Json.Serialization;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.AspNetCore;

WebApplicationBuilder builder = WebApplication.CreateBuilder(args);
builder.Services.AddMemoryIdempotencyStore();
builder.Services.AddIdempotency("orders", o => o.Duplicates = DuplicatePolicy.WaitAndReplay);
builder.Services.AddHttpIdempotency(o => o.Subject = context => context.Request.Headers["X-Api-Key"]);

builder.Logging.ClearProviders();
builder.WebHost.UseUrls("http://127.0.0.1:0");
builder.Services.ConfigureHttpJsonOptions(o => o.SerializerOptions.TypeInfoResolver = ShopJson.Default);

WebApplication app = builder.Build();
app.UseIdempotency();
app.MapPost("/orders", async (OrderRequest order, HttpContext context) =>
{
    IdempotentOperation operation = context.GetIdempotentOperation();
    string charge = await operation.PhaseAsync("charge", ct => ChargeAsync(operation.DownstreamKey("charge"), 30 * order.Apples, ct), ShopJson.Default.String);
    return Results.Created("/orders/4711", new Order(4711, charge));
}).RequireIdempotency("orders");

app.MapPost("/exports", (HttpContext context) => context.Response.Body.WriteAsync(new byte[100_000]).AsTask()).RequireIdempotency("orders");

// Asks once the application has started, and stops it.
using var client = new HttpClient();
client.DefaultRequestHeaders.Add("X-Api-Key", "ann");
Task asked = AskAsync();

app.Run();

await asked;

// Stands for somebody else's service.
static async ValueTask<string> ChargeAsync(string key, int amount, CancellationToken token)
{
    await Task.Delay(TimeSpan.FromMilliseconds(300), TimeProvider.System, token);
    return $"{amount} under {key}";
}

async Task AskAsync()
{
    var started = new TaskCompletionSource();
    app.Lifetime.ApplicationStarted.Register(started.SetResult);
    await started.Task;
    client.BaseAddress = new Uri(app.Urls.Single());
    try
    {
        await ShowAllAsync();
    }
    finally
    {
        await app.StopAsync();
    }
}

async Task ShowAllAsync()
{
    Console.WriteLine("1. The same request twice: one order, one charge.");
    await ShowAsync("/orders", "key-1", """{"apples":2}""");
    await ShowAsync("/orders", "key-1", """{"apples":2}""");

    Console.WriteLine("2. Another request under the same key.");
    await ShowAsync("/orders", "key-1", """{"apples":200}""");

    Console.WriteLine("3. No key, and one that is malformed.");
    await ShowAsync("/orders", null, """{"apples":2}""");
    await ShowAsync("/orders", "a, b", """{"apples":2}""");

    Console.WriteLine("4. A client that hangs up while it is charged, and asks again.");
    using (var hangUp = new CancellationTokenSource(TimeSpan.FromMilliseconds(50), TimeProvider.System))
    {
        try
        {
            await PostAsync("/orders", "key-2", """{"apples":3}""", hangUp.Token);
        }
        catch (OperationCanceledException)
        {
            Console.WriteLine("   hung up");
        }
    }

    await ShowAsync("/orders", "key-2", """{"apples":3}""");

    Console.WriteLine("5. A response that is too large to keep: it was sent, and does not run again.");
    await ShowAsync("/exports", "key-3", "{}");
    await ShowAsync("/exports", "key-3", "{}");
}

async Task<HttpResponseMessage> PostAsync(string path, string? key, string body, CancellationToken token)
{
    using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new StringContent(body, null, "application/json") };
    if (key is not null)
    {
        request.Headers.TryAddWithoutValidation("Idempotency-Key", key);
    }

    return await client.SendAsync(request, token);
}

async Task ShowAsync(string path, string? key, string body)
{
    using HttpResponseMessage answer = await PostAsync(path, key, body, CancellationToken.None);
    string text = await answer.Content.ReadAsStringAsync();
    Console.WriteLine($"   {(int)answer.StatusCode}{(answer.Headers.Contains("Idempotent-Replayed") ? " replayed" : "")}  {(text.Length > 300 ? $"{text.Length} bytes" : text)}");
}

internal sealed record OrderRequest(int Apples);

internal sealed record Order(int Number, string Charge);

[JsonSerializable(typeof(OrderRequest))]
[JsonSerializable(typeof(Order))]
[JsonSerializable(typeof(string))]
internal sealed partial class ShopJson : JsonSerializerContext;
