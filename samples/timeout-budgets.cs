#:project ../src/Backend.Toolkit.TimeoutBudgets/Backend.Toolkit.TimeoutBudgets.csproj
#:package Microsoft.Extensions.DependencyInjection

// Shows a budget that flows through await, an attempt that gets a slice of it, who reports which timeout, and background work that does not inherit it.
// Run it: dotnet run samples/timeout-budgets.cs
using Backend.Toolkit.TimeoutBudgets;
using Microsoft.Extensions.DependencyInjection;

var services = new ServiceCollection();
services.AddTimeoutBudget("checkout", o => o.Total = TimeSpan.FromMilliseconds(600));
services.AddTimeoutBudget("attempt", o => o.TotalFor = () => TimeoutBudget.Current?.Slice(fraction: 0.5));

await using ServiceProvider provider = services.BuildServiceProvider();
var checkout = provider.GetRequiredKeyedService<TimeoutBudgetPolicy>("checkout");
var attempt = provider.GetRequiredKeyedService<TimeoutBudgetPolicy>("attempt");

Console.WriteLine("1. The budget flows; an inner layer gets a slice of what is left, and reports its own timeout.");

await checkout.ExecuteAsync(async token =>
{
    Console.WriteLine($"checkout has {TimeoutBudget.Current!.Remaining.TotalMilliseconds:0} ms");
    try
    {
        await attempt.ExecuteAsync(ct => Task.Delay(Timeout.Infinite, ct), token);
    }
    catch (TimeoutBudgetExceededException exceeded)
    {
        Console.WriteLine($"'{exceeded.Name}' ended after {exceeded.Total.TotalMilliseconds:0} ms; checkout still has time: {!TimeoutBudget.Current.IsExpired}");
    }
});

Console.WriteLine("2. An inner layer that asks for more than is left ends with the outer one, which reports it.");
var generous = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Name = "generous", Total = TimeSpan.FromMinutes(5) });
try
{
    await checkout.ExecuteAsync(token => generous.ExecuteAsync(ct => Task.Delay(Timeout.Infinite, ct), token));
}
catch (TimeoutBudgetExceededException exceeded)
{
    Console.WriteLine($"   '{exceeded.Name}' ended after {exceeded.Total.TotalMilliseconds:0} ms");
}

Console.WriteLine("3. Work that outlives its request does not inherit the spent budget.");
var release = new TaskCompletionSource();
Task background = Task.CompletedTask;
using (var budget = TimeoutBudget.Start(TimeSpan.FromSeconds(1), "request"))
{
    background = Task.Run(async () =>
    {
        Console.WriteLine($"   inside: {TimeoutBudget.Current?.Name}");
        release.SetResult();
        await Task.Delay(200);
        Console.WriteLine($"   after the request: {TimeoutBudget.Current?.Name ?? "no budget"}");
    });
    await release.Task;
}

await background;

Console.WriteLine("4. An action that ignores its token is waited for, or abandoned.");
var onTime = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Name = "on-time", Total = TimeSpan.FromMilliseconds(100), AbandonOnExpiry = true });
try
{
    await onTime.ExecuteAsync(_ => Task.Delay(1_500));
}
catch (TimeoutBudgetExceededException exceeded)
{
    Console.WriteLine($"   returned before the action ended: {exceeded.Elapsed < TimeSpan.FromSeconds(1)}");
}

Console.WriteLine("Shown: a budget flows inwards, never grows, is reported by the layer whose it was, and ends with its scope.");
