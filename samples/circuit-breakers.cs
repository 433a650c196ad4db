#:project ../src/Backend.Toolkit.CircuitBreakers/Backend.Toolkit.CircuitBreakers.csproj
#:package Microsoft.Extensions.DependencyInjection

// Shows a circuit that opens on failures, one that opens on calls that hang, and one circuit per host.
// Run it: dotnet run samples/circuit-breakers.cs
using Backend.Toolkit.CircuitBreakers;
using Microsoft.Extensions.DependencyInjection;

var services = new ServiceCollection();
services.AddCircuitBreaker("payments", o =>
{
    o.FailureRatio = 0.5;
    o.MinimumThroughput = 4;
    o.BreakDuration = TimeSpan.FromMilliseconds(300);
    o.SlowCallDuration = TimeSpan.FromMilliseconds(400);
});

// One circuit per host, for the last part.
services.AddCircuitBreakerGroup<string>("hosts", o => o.ConsecutiveFailures = 3);

await using ServiceProvider provider = services.BuildServiceProvider();
CircuitBreaker breaker = provider.GetRequiredKeyedService<CircuitBreaker>("payments");

breaker.StateChanged += (_, change) => Console.WriteLine($"   payments: {change.Previous} -> {change.Current}");
Console.WriteLine("1. The dependency fails; the circuit opens and rejects without calling it.");

// Stands for somebody else's service, which is down: the circuit opens after four calls.
bool isDown = true;
Task<string> ChargeAsync(CancellationToken token) => isDown ? throw new HttpRequestException("failed") : Task.FromResult("charged");
for (int i = 0; i < 6; i++)
{
    try
    {
        Console.WriteLine(await breaker.ExecuteAsync(token => ChargeAsync(token)));
    }
    catch (HttpRequestException exception)
    {
        Console.WriteLine(exception.Message);
    }
    catch (CircuitOpenException open)
    {
        Console.WriteLine($"rejected: {open.State}, come back in {open.RetryAfter.TotalMilliseconds:0} ms");
    }
}

Console.WriteLine("2. It recovers; one probe closes the circuit after the break.");
isDown = false;
using (var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(20)))
{
    while (breaker.State != CircuitState.HalfOpen)
    {
        await timer.WaitForNextTickAsync();
    }
}

Console.WriteLine($"   {await breaker.ExecuteAsync(token => ChargeAsync(token))}");

Console.WriteLine("3. It hangs; nothing completes, and the circuit opens all the same.");
using var hangUp = new CancellationTokenSource();
Task<string>[] hung = [.. Enumerable.Range(0, 8).Select(_ => breaker.ExecuteAsync(token => HangAsync(token), hangUp.Token).AsTask())];
using (var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(20)))
{
    while (breaker.State == CircuitState.Closed)
    {
        await timer.WaitForNextTickAsync();
    }
}

Console.WriteLine($"   completed calls: {hung.Count(call => call.IsCompleted)}, state: {breaker.State}");
hangUp.Cancel();
await Task.WhenAll(hung.Select(call => call.ContinueWith(_ => { }, TaskScheduler.Default)));

Console.WriteLine("4. Without a delegate, and one circuit per host.");
CircuitBreakerGroup<string> hosts = provider.GetRequiredKeyedService<CircuitBreakerGroup<string>>("hosts");
foreach (string host in new[] { "good.example", "bad.example", "bad.example", "bad.example", "bad.example" })
{
    CircuitBreaker circuit = hosts.For(host);
    if (!circuit.TryEnter(out CircuitPermit permit))
    {
        Console.WriteLine($"   {host}: rejected");
    }
    else if (host.StartsWith("good", StringComparison.Ordinal))
    {
        permit.Success();
    }
    else
    {
        permit.Failure();
    }
}

foreach (CircuitGroupEntry<string> entry in hosts.Snapshot().OrderBy(entry => entry.Key, StringComparer.Ordinal))
{
    Console.WriteLine($"   {entry.Key}: {entry.State}");
}

Console.WriteLine("Shown: failures and hung calls open a circuit, a probe closes it, and hosts do not share one.");

static async Task<string> HangAsync(CancellationToken token)
{
    await Task.Delay(Timeout.Infinite, token);
    return "never";
}
