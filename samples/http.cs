#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Backend.Toolkit.Http/Backend.Toolkit.Http.csproj

// Outbound HTTP: one handler before an HttpClient, against a server on this machine that fails, is busy, stalls and dies.
using System.Net;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.Http;
using Backend.Toolkit.TimeoutBudgets;

// 1. In a container: a client, its policy, and the numbers that differ from the defaults.
WebApplicationBuilder builder = WebApplication.CreateBuilder(args);
builder.Services.AddHttpClient("payments")
    .AddOutboundPolicy(o =>
    {
        o.Budget!.Total = TimeSpan.FromSeconds(2);
        o.Attempt!.Total = TimeSpan.FromSeconds(1);
        o.Retry!.BaseDelay = TimeSpan.FromMilliseconds(50);
        o.AttachIdempotencyKey = true;
    });

builder.Logging.ClearProviders();
builder.WebHost.UseUrls("http://127.0.0.1:0");

// Stands for somebody else's service, which fails once.
await using WebApplication app = builder.Build();
int calls = 0;
app.MapPost("/charges", (HttpRequest request) => ++calls == 1 ? Results.StatusCode(503) : Results.Text($"charged under {request.Headers["Idempotency-Key"]}"));

var seen = new List<string>();
var keys = new HashSet<string>();
app.Use((context, next) =>
{
    if (HttpMethods.IsPost(context.Request.Method))
    {
        keys.Add(context.Request.Headers["Idempotency-Key"].ToString());
        seen.Add(context.Request.Headers["Retry-Attempt"] is [{ } attempt] ? $"attempt {attempt}" : "attempt 1");
    }

    return next(context);
});
app.MapGet("/busy", (HttpResponse response) =>
{
    response.Headers.RetryAfter = "60";
    return Results.StatusCode(429);
});
app.MapGet("/left", (HttpRequest request) => request.Headers["Timeout-Budget"].ToString());
app.MapGet("/endless", async (HttpContext context) =>
{
    await context.Response.WriteAsync("the first part");
    await context.Response.Body.FlushAsync();
    await Task.Delay(Timeout.Infinite, context.RequestAborted);
});
app.MapGet("/dead", () => Results.StatusCode(500));

await app.StartAsync();
HttpClient payments = app.Services.GetRequiredService<IHttpClientFactory>().CreateClient("payments");
payments.BaseAddress = new Uri(app.Urls.First());
using HttpResponseMessage charged = await payments.PostAsync("charges", new StringContent("12.50"));
Console.WriteLine($"{await charged.Content.ReadAsStringAsync()}, by call {calls}");

Console.WriteLine($"What it saw:                 {string.Join(", then ", seen)}, {keys.Count} key");

// 2. Come back in a minute: not within two seconds, so the answer is here at once.
long asked = TimeProvider.System.GetTimestamp();

using HttpResponseMessage busy = await payments.GetAsync("busy");

TimeSpan waited = TimeProvider.System.GetElapsedTime(asked);
Console.WriteLine($"Retry-After: 60:             {(int)busy.StatusCode} in {waited.TotalMilliseconds:0} ms");

// 3. One request that differs, inside a budget that somebody else has set.
using (TimeoutBudget.Start(TimeSpan.FromMilliseconds(500)))
{
    using var request = new HttpRequestMessage(HttpMethod.Get, "left");
    request.Options.Set(OutboundRequest.Total, TimeSpan.FromMilliseconds(300));
    request.Options.Set(OutboundRequest.NoRetry, true);
    using HttpResponseMessage left = await payments.SendAsync(request);

    Console.WriteLine($"What the server is told:     Timeout-Budget: {await left.Content.ReadAsStringAsync()}");
}

// 4. A body that never ends is read as long as the budget lasts.
string stalled = "";
using (HttpResponseMessage endless = await payments.GetAsync("endless", HttpCompletionOption.ResponseHeadersRead))
{
    try
    {
        await endless.Content.ReadAsStringAsync();
    }
    catch (TimeoutBudgetExceededException spent)
    {
        stalled = spent.Name;
        Console.WriteLine($"A body that never ends:      {spent.GetType().Name} after {spent.Elapsed.TotalSeconds:0.0} s");
    }
}

// 5. Without the factory: the same handler by hand. Its circuit for this server opens, and calls cost nothing any more.
using var policy = new OutboundPolicy(new OutboundPolicyOptions
{
    Name = "reports",
    Retry = null,
    CircuitBreaker = new CircuitBreakerGroupOptions { ConsecutiveFailures = 3 },
});
using var reports = new HttpClient(new OutboundPolicyHandler(policy) { InnerHandler = new SocketsHttpHandler() }) { Timeout = Timeout.InfiniteTimeSpan };

int answers = 0, rejections = 0;
for (int i = 0; i < 10; i++)
{
    try
    {
        using HttpResponseMessage dead = await reports.GetAsync(app.Urls.First() + "/dead");
        answers++;
    }
    catch (CircuitOpenException)
    {
        rejections++;
    }
}

Console.WriteLine($"A server that is down:       {answers} of 10 calls reached it, {rejections} were rejected");
await app.StopAsync();
return charged.StatusCode == HttpStatusCode.OK && keys.Count == 1 && busy.StatusCode == HttpStatusCode.TooManyRequests && waited < TimeSpan.FromSeconds(1)
    && stalled == "payments" && (answers, rejections) == (3, 7) ? 0 : 1;
