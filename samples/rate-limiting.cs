#:project ../src/Backend.Toolkit.RateLimiting/Backend.Toolkit.RateLimiting.csproj
#:package Microsoft.Extensions.DependencyInjection

// Rate limiting: a bucket, an exact window for logins, tenants with plans of their own, a real cost settled afterwards, and a wait.
using Backend.Toolkit.RateLimiting;
using Microsoft.Extensions.DependencyInjection;

// 1. In a container: tenants with plans of their own; limiters by name. A key, its decision, and when to come back.
IReadOnlyList<RateLimit> gold = [new RateLimit(100, TimeSpan.FromSeconds(1)), new RateLimit(100_000, TimeSpan.FromDays(1))];
var services = new ServiceCollection();
services.AddTokenBucketLimiter<Caller>("tenants", caller => caller.Tenant, o =>
{
    o.Limits.Add(new RateLimit(10, TimeSpan.FromSeconds(1)));
    o.Limits.Add(new RateLimit(10_000, TimeSpan.FromDays(1)));
    o.LimitsFor = caller => caller.IsGold ? gold : null;
});

services.AddTokenBucketLimiter("api", o => o.Limits.Add(new RateLimit(100, TimeSpan.FromSeconds(1), burst: 200)));
services.AddSlidingWindowLimiter<string>("logins", user => user, o =>
{
    o.Mode = SlidingWindowMode.Exact;
    o.Limits.Add(new RateLimit(5, TimeSpan.FromMinutes(15)));
});

await using ServiceProvider provider = services.BuildServiceProvider();
var tenants = provider.GetRequiredKeyedService<KeyedRateLimiter<Caller>>("tenants");
var caller = new Caller("acme", IsGold: false);
int served = 0;
RateLimitDecision decision;
while (tenants.TryAcquire(caller, permits: 1, out decision))
{
    served++;
}

Console.WriteLine($"A tenant: {served} served at once, the next in {decision.RetryAfter.TotalMilliseconds:0} ms");

Console.WriteLine($"A gold tenant:      {(tenants.TryAcquire(new Caller("globex", IsGold: true), 50, out decision) ? "admitted" : "refused")}, {decision.Remaining} left");

// 2. Logins: no 15 minutes, wherever they begin, hold more than five.
var logins = provider.GetRequiredKeyedService<KeyedRateLimiter<string>>("logins");
int tries = Enumerable.Range(0, 20).Count(_ => logins.TryAcquire("ada", 1, out decision));

Console.WriteLine($"Logins:             {tries} of 20 tries, the next in {decision.RetryAfter.TotalMinutes:0} minutes");

// 3. Charge an estimate, settle the real cost.
var api = provider.GetRequiredKeyedService<TokenBucketLimiter>("api");
if (api.TryAcquire(150, out RateLimitDecision estimate))
{
    int actual = 20;
    api.Settle(estimate, actual);
}

api.TryAcquire(0, out decision);

Console.WriteLine($"Settled:            150 charged, 20 used, {decision.Remaining} of 200 left");

// 4. Wait in line instead of being refused.
var options = new TokenBucketLimiterOptions { QueueLimit = 10 };
options.Limits.Add(new RateLimit(50, TimeSpan.FromSeconds(1), burst: 1));
using var paced = new TokenBucketLimiter(options);
long start = TimeProvider.System.GetTimestamp();

await Task.WhenAll(Enumerable.Range(0, 6).Select(_ => paced.AcquireDecisionAsync().AsTask()));

Console.WriteLine($"Paced:              6 calls at 50 a second took {TimeProvider.System.GetElapsedTime(start).TotalMilliseconds:0} ms");

internal sealed record Caller(string Tenant, bool IsGold);
