#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Backend.Toolkit.Webhooks.AspNetCore/Backend.Toolkit.Webhooks.AspNetCore.csproj
#:property JsonSerializerIsReflectionEnabledByDefault=false

// Receiving webhooks over HTTP: verified before anything is bound, handled once, refused without a reason, and told by the event's id where the sender signs each attempt anew.
// Run it: dotnet run samples/webhooks-asp-net-core.cs
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Backend.Toolkit.Webhooks;
using Backend.Toolkit.Webhooks.AspNetCore;

WebApplicationBuilder builder = WebApplication.CreateBuilder(args);
string secret = builder.Configuration["Payments:Secret"] ?? WebhookKey.NewSecret();
builder.Services.AddWebhookVerifier("payments", o => o.Keys.Add(new WebhookKey(secret)));
builder.Services.AddWebhookReplayGuard("payments", o => o.MaxKeys = 10_000);
builder.Services.AddWebhookReceiving(o => o.MaxBodyBytes = 100_000);

builder.Services.ConfigureHttpJsonOptions(o => o.SerializerOptions.TypeInfoResolver = SampleJson.Default);

// Stripe's scheme; and the other ends, to have something to receive.
builder.Services.AddWebhookVerifier("stripe", FromStripe);
builder.Services.AddWebhookSigner("payments", o => o.Keys.Add(new WebhookKey(secret)));
builder.Services.AddWebhookSigner("stripe", FromStripe);

builder.Logging.ClearProviders();
builder.WebHost.UseUrls("http://127.0.0.1:0");

WebApplication app = builder.Build();
app.UseWebhookVerification();
app.MapPost("/webhooks/payments", (PaymentEvent payment, HttpContext context) =>
{
    VerifiedWebhook webhook = context.GetVerifiedWebhook();
    Console.WriteLine($"{webhook.Id}: {payment.Type} {payment.Amount}");
    return Results.NoContent();
}).VerifyWebhook("payments");

app.MapPost("/webhooks/stripe", (HttpContext context) => Console.WriteLine($"From Stripe: {context.GetVerifiedWebhook().BodyLength} bytes"))
    .VerifyWebhook("stripe", eventId: async webhook =>
    {
        using JsonDocument body = await JsonDocument.ParseAsync(webhook.OpenBody());
        return body.RootElement.GetProperty("id").GetString();
    });
int attempts = 0;
app.MapPost("/webhooks/shaky", () => ++attempts == 1 ? Results.StatusCode(500) : Results.Ok()).VerifyWebhook("payments");

// Asks once the application has started, and stops it.
using var client = new HttpClient();
Task asked = AskAsync();

app.Run();

await asked;
Console.WriteLine("Shown: what is signed is handled once, and nothing else is handled.");

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
    const string Captured = """{"type":"payment.captured","amount":30}""";
    Console.WriteLine("1. Signed, and delivered again.");
    await SendAsync("/webhooks/payments", "payments", "msg_17", Captured, Captured);
    await SendAsync("/webhooks/payments", "payments", "msg_17", Captured, Captured);

    Console.WriteLine("2. Changed on the way; not signed at all; too long.");
    await SendAsync("/webhooks/payments", "payments", "msg_18", Captured, Captured.Replace("30", "3000"));
    await SendAsync("/webhooks/payments", null, "", "", Captured);
    await SendAsync("/webhooks/payments", "payments", "msg_19", new string(' ', 100_001), new string(' ', 100_001));

    Console.WriteLine("3. A handler that fails: the sender's next attempt runs.");
    await SendAsync("/webhooks/shaky", "payments", "msg_20", Captured, Captured);
    await SendAsync("/webhooks/shaky", "payments", "msg_20", Captured, Captured);

    Console.WriteLine("4. Stripe signs each attempt anew; the event's id in the verified body tells that it is the same.");
    await SendAsync("/webhooks/stripe", "stripe", null, """{"id":"evt_1"}""", """{"id":"evt_1"}""", -1);
    await SendAsync("/webhooks/stripe", "stripe", null, """{"id":"evt_1"}""", """{"id":"evt_1"}""");
}

static void FromStripe(WebhookOptions options)
{
    options.Scheme = WebhookScheme.Stripe;
    options.Keys.Add(new WebhookKey("whsec_from_the_dashboard_of_Stripe"));
}

async Task SendAsync(string path, string? signer, string? id, string signed, string sent, int secondsAgo = 0)
{
    using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new StringContent(sent, Encoding.UTF8, "application/json") };
    if (signer is not null)
    {
        DateTimeOffset time = TimeProvider.System.GetUtcNow().AddSeconds(secondsAgo);
        app.Services.GetRequiredKeyedService<WebhookSigner>(signer).Sign(request.Headers, (to, name, value) => to.Add(name, value.ToString()), id, Encoding.UTF8.GetBytes(signed), time);
    }

    using HttpResponseMessage answer = await client.SendAsync(request);
    Console.WriteLine($"   {(int)answer.StatusCode} {await answer.Content.ReadAsStringAsync()}".TrimEnd());
}

internal sealed record PaymentEvent(string Type, int Amount);

[JsonSerializable(typeof(PaymentEvent))]
internal sealed partial class SampleJson : JsonSerializerContext;
