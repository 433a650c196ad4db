#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Backend.Toolkit.RateLimiting.AspNetCore/Backend.Toolkit.RateLimiting.AspNetCore.csproj

// Shows a policy for the whole application, one for an endpoint, what the headers say, a refusal, and a cost that the handler settles.
// Run it: dotnet run samples/rate-limiting-asp-net-core.cs
using Backend.Toolkit.RateLimiting;
using Backend.Toolkit.RateLimiting.AspNetCore;

WebApplicationBuilder builder = WebApplication.CreateBuilder(args);
builder.Services.AddRateLimits();
builder.Services.AddTokenBucketLimiter<HttpContext>("client", RateLimitKeys.IpPrefix, o => o.Limits.Add(new RateLimit(100, TimeSpan.FromMinutes(1))));
builder.Services.AddSlidingWindowLimiter<HttpContext>("exports", RateLimitKeys.Header("X-Api-Key"), o => o.Limits.Add(new RateLimit(2, TimeSpan.FromHours(1))));

builder.Logging.ClearProviders();
builder.WebHost.UseUrls("http://127.0.0.1:0");

WebApplication app = builder.Build();
app.UseRateLimits(policy: "client");
app.MapGet("/orders", () => "orders");
app.MapGet("/exports", () => "export").RequireRateLimit("exports");
app.MapGet("/health", () => "up").DisableRateLimit();

app.MapGet("/report", (HttpContext context) =>
{
    int pages = 7;
    RequestRateLimits.Of(context)?.Settle("client", pages);
    return $"{pages} pages";
});

// Asks once the application has started, and stops it.
using var client = new HttpClient();
Task asked = AskAsync();

app.Run();

await asked;

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
    Console.WriteLine("1. One policy for the whole application, but for an endpoint that is taken out.");
    await ShowAsync("/orders");
    await ShowAsync("/health");

    Console.WriteLine("2. A report that costs seven.");
    await ShowAsync("/report");
    await ShowAsync("/orders");

    Console.WriteLine("3. An endpoint with a policy of its own: two an hour. A refusal charges nothing, to no policy.");
    for (int i = 0; i < 4; i++)
    {
        await ShowAsync("/exports");
    }
}

async Task ShowAsync(string path)
{
    using HttpResponseMessage answer = await client.GetAsync(path);
    Console.WriteLine($"   {path,-9} {(int)answer.StatusCode}  RateLimit: {Header("RateLimit")}  RateLimit-Policy: {Header("RateLimit-Policy")}  Retry-After: {Header("Retry-After")}");

    string Header(string name) => answer.Headers.TryGetValues(name, out IEnumerable<string>? values) ? string.Join(", ", values) : "none";
}
