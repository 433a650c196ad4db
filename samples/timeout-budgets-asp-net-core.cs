#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Backend.Toolkit.TimeoutBudgets.AspNetCore/Backend.Toolkit.TimeoutBudgets.AspNetCore.csproj

// Shows a caller that shortens the time of a request, a request that runs out of it, one that arrives too late, and answers that say that calling again is useless.
// Run it: dotnet run samples/timeout-budgets-asp-net-core.cs
using Backend.Toolkit.TimeoutBudgets;
using Backend.Toolkit.TimeoutBudgets.AspNetCore;

WebApplicationBuilder builder = WebApplication.CreateBuilder(args);
builder.Services.AddTimeoutBudgets(o => o.Maximum = TimeSpan.FromSeconds(10));

builder.Logging.ClearProviders();
builder.WebHost.UseUrls("http://127.0.0.1:0");

WebApplication app = builder.Build();
app.UseTimeoutBudgets();
app.MapGet("/orders", async (CancellationToken token) =>
{
    await Task.Delay(TimeSpan.FromMilliseconds(50), token);
    return $"answered within {TimeoutBudget.Current!.Total.TotalSeconds} s";
}).WithTimeoutBudget(TimeSpan.FromSeconds(2));

bool cancelled = false;
app.MapGet("/slow", async (CancellationToken token) =>
{
    using CancellationTokenRegistration told = token.Register(() => cancelled = true);
    await Task.Delay(Timeout.InfiniteTimeSpan, token);
});
app.MapGet("/busy", () => Results.StatusCode(503));
app.MapGet("/down", () =>
{
    TimeoutBudget.Current!.MarkRetriesExhausted("payments");
    return Results.StatusCode(503);
});

// Asks once the application has started, and stops it.
using var client = new HttpClient();
Task asked = AskAsync();

app.Run();

await asked;
Console.WriteLine("Shown: a request takes over what its caller has left, ends with it, and says when calling again is useless.");

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
    Console.WriteLine("1. The budget is the least of the caller's and the endpoint's; garbage is ignored.");
    await ShowAsync("/orders", null);
    await ShowAsync("/orders", "500");
    await ShowAsync("/orders", "60000");
    await ShowAsync("/orders", "500ms");

    Console.WriteLine("2. A handler that is late is cancelled, and the caller gets a 504.");
    await ShowAsync("/slow", "300");
    Console.WriteLine($"   the handler was told: {cancelled}");

    Console.WriteLine("3. A request that arrives too late is not begun.");
    await ShowAsync("/orders", "0");

    Console.WriteLine("4. A 503 may be tried again, unless whoever answers it has itself given up on something.");
    await ShowAsync("/busy", "500");
    await ShowAsync("/down", "500");
}

async Task ShowAsync(string path, string? budget)
{
    using var request = new HttpRequestMessage(HttpMethod.Get, path);
    if (budget is not null)
    {
        request.Headers.TryAddWithoutValidation("Timeout-Budget", budget);
    }

    using HttpResponseMessage response = await client.SendAsync(request);
    string noRetry = response.Headers.TryGetValues("No-Retry", out IEnumerable<string>? values) ? $", No-Retry: {values.Single()}" : "";
    Console.WriteLine($"   {path} with {budget ?? "nothing"}: {(int)response.StatusCode}{noRetry} {await response.Content.ReadAsStringAsync()}");
}
