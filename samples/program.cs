#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Backend.Toolkit.Http/Backend.Toolkit.Http.csproj
#:project ../src/Backend.Toolkit.Idempotency.AspNetCore/Backend.Toolkit.Idempotency.AspNetCore.csproj
#:project ../src/Backend.Toolkit.RateLimiting.AspNetCore/Backend.Toolkit.RateLimiting.AspNetCore.csproj
#:project ../src/Backend.Toolkit.TimeoutBudgets.AspNetCore/Backend.Toolkit.TimeoutBudgets.AspNetCore.csproj
#:property PublishAot=false
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.Http;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.AspNetCore;
using Backend.Toolkit.RateLimiting;
using Backend.Toolkit.RateLimiting.AspNetCore;
using Backend.Toolkit.TimeoutBudgets.AspNetCore;

WebApplicationBuilder builder = WebApplication.CreateBuilder(args);

// Inbound: a request has 3 s, or what its caller has left; a client asks 100 times a minute; a key runs once.
builder.Services.AddTimeoutBudgets(o => o.Maximum = TimeSpan.FromSeconds(3));
builder.Services.AddRateLimits();
builder.Services.AddTokenBucketLimiter<HttpContext>("client", RateLimitKeys.IpPrefix, o => o.Limits.Add(new RateLimit(100, TimeSpan.FromMinutes(1))));
builder.Services.AddMemoryIdempotencyStore();
builder.Services.AddIdempotency("orders");
builder.Services.AddHttpIdempotency(o => o.AllowAnonymous = true);

// Outbound: each call is told what is left of the 3 s, is retried while that makes sense, and not made while its circuit is open.
builder.Services.AddHttpClient("payments").AddOutboundPolicy(o => o.AttachIdempotencyKey = true);

WebApplication app = builder.Build();
app.UseRateLimits(policy: "client");
app.UseIdempotency();
app.UseTimeoutBudgets();

app.MapPost("/orders", async (IHttpClientFactory clients, HttpResponse response, CancellationToken cancellationToken) =>
{
    try
    {
        using HttpClient payments = clients.CreateClient("payments");
        using HttpResponseMessage charged = await payments.PostAsync($"{app.Urls.First()}/charges", null, cancellationToken);
        return charged.IsSuccessStatusCode
            ? Results.Created("/orders/1", new { paid = await charged.Content.ReadAsStringAsync(cancellationToken) })
            : Results.StatusCode(StatusCodes.Status502BadGateway);
    }
    catch (CircuitOpenException open)
    {
        response.Headers.RetryAfter = $"{Math.Ceiling(open.RetryAfter.TotalSeconds)}";
        return Results.StatusCode(StatusCodes.Status503ServiceUnavailable);
    }
}).RequireIdempotency("orders");

// Stands for somebody else's service, which fails when it is called first, and every twentieth time after that.
int calls = 0;
app.MapPost("/charges", () => Interlocked.Increment(ref calls) % 20 == 1 ? Results.StatusCode(503) : Results.Text($"by call {calls}")).DisableRateLimit();

app.Run();
