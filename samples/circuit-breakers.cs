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
services.AddCircuitBreakerGroup<string>("hosts", o => o.ConsecutiveFailures = 3);

await using ServiceProvider provider = services.BuildServiceProvider();
CircuitBreaker breaker = provider.GetRequiredKeyedService<CircuitBreaker>("payments");
breaker.StateChanged += (_, change) => Console.WriteLine($"   payments: {change.Previous} -> {change.Current}");
var dependency = new Dependency();

Console.WriteLine("1. The dependency fails; the circuit opens and rejects without calling it.");
dependency.Fails = true;
for (int i = 0; i < 6; i++)
{
    try
    {
        string receipt = await breaker.ExecuteAsync(token => dependency.ChargeAsync(token));
        Console.WriteLine($"   {receipt}");
    }
    catch (CircuitOpenException open)
    {
        Console.WriteLine($"   rejected: {open.State}");
    }
    catch (HttpRequestException)
    {
        Console.WriteLine("   failed");
    }
}

Console.WriteLine("2. It recovers; one probe closes the circuit after the break.");
dependency.Fails = false;
using (var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(20)))
{
    while (breaker.State != CircuitState.HalfOpen)
    {
        await timer.WaitForNextTickAsync();
    }
}

Console.WriteLine($"   {await breaker.ExecuteAsync(token => dependency.ChargeAsync(token))}");

Console.WriteLine("3. It hangs; nothing completes, and the circuit opens all the same.");
dependency.Hangs = true;
using var hangUp = new CancellationTokenSource();
Task<string>[] hung = [.. Enumerable.Range(0, 8).Select(_ => breaker.ExecuteAsync(token => dependency.ChargeAsync(token), hangUp.Token).AsTask())];
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

internal sealed class Dependency
{
    public bool Fails { get; set; }

    public bool Hangs { get; set; }

    public async ValueTask<string> ChargeAsync(CancellationToken token)
    {
        if (Hangs)
        {
            await Task.Delay(Timeout.Infinite, token);
        }

        return Fails ? throw new HttpRequestException("503") : "charged";
    }
}
