#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Backend.Toolkit.Idempotency.AspNetCore/Backend.Toolkit.Idempotency.AspNetCore.csproj
#:property JsonSerializerIsReflectionEnabledByDefault=false

// Idempotency over HTTP: a repeat, another request under the same key, a client that hangs up half-way, and a response that is too large to keep.
// Run it: dotnet run samples/idempotency-asp-net-core.cs
using System.Text.Json.Serialization;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.AspNetCore;

WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(args);
builder.Logging.ClearProviders();
builder.WebHost.UseUrls("http://127.0.0.1:0");
builder.Services.ConfigureHttpJsonOptions(o => o.SerializerOptions.TypeInfoResolver = SampleJson.Default);
builder.Services.AddMemoryIdempotencyStore();
builder.Services.AddIdempotency("orders", o => o.Duplicates = DuplicatePolicy.WaitAndReplay);
builder.Services.AddHttpIdempotency(o => o.Subject = context => context.Request.Headers["X-Api-Key"]);

await using WebApplication app = builder.Build();
var payments = new Payments();
int numbers = 4710;
app.UseIdempotency();
app.MapPost("/orders", async (OrderRequest order, HttpContext context) =>
{
    IdempotentOperation operation = context.GetIdempotentOperation();
    string charge = await operation.PhaseAsync("charge", ct => payments.ChargeAsync(operation.DownstreamKey("charge"), 30 * order.Apples, ct), SampleJson.Default.String);
    return Results.Created("/orders/4711", new Order(Interlocked.Increment(ref numbers), charge));
}).RequireIdempotency("orders");
app.MapPost("/exports", (HttpContext context) => context.Response.Body.WriteAsync(new byte[100_000]).AsTask()).RequireIdempotency("orders");
await app.StartAsync();

using var client = new HttpClient { BaseAddress = new Uri(app.Urls.Single()) };
client.DefaultRequestHeaders.Add("X-Api-Key", "ann");

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

Console.WriteLine($"{payments.Calls} charges for 2 orders.");
await app.StopAsync();

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

internal sealed class Payments
{
    private int _calls;

    public int Calls => _calls;

    public async ValueTask<string> ChargeAsync(string key, int amount, CancellationToken token)
    {
        await Task.Delay(TimeSpan.FromMilliseconds(300), TimeProvider.System, token);
        Interlocked.Increment(ref _calls);
        return $"{amount} under {key}";
    }
}

[JsonSerializable(typeof(OrderRequest))]
[JsonSerializable(typeof(Order))]
[JsonSerializable(typeof(string))]
internal sealed partial class SampleJson : JsonSerializerContext;
