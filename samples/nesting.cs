#:project ../src/Backend.Toolkit.CircuitBreakers/Backend.Toolkit.CircuitBreakers.csproj
#:project ../src/Backend.Toolkit.RetryPolicies/Backend.Toolkit.RetryPolicies.csproj
#:project ../src/Backend.Toolkit.TimeoutBudgets/Backend.Toolkit.TimeoutBudgets.csproj
#:package Microsoft.Extensions.DependencyInjection

// Three packages that know nothing of each other, around a call that is not HTTP. Over HTTP, Backend.Toolkit.Http does it in one handler.
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.RetryPolicies;
using Backend.Toolkit.TimeoutBudgets;
using Microsoft.Extensions.DependencyInjection;

var services = new ServiceCollection();
services.AddTimeoutBudget("checkout", o => o.Total = TimeSpan.FromSeconds(1));
services.AddTimeoutBudget("attempt", o => o.TotalFor = () => TimeoutBudget.Current?.Slice(0.25));
services.AddCircuitBreaker("printer");
services.AddRetryPolicy("printer", o =>
{
    o.ShouldRetry = exception => exception is TimeoutBudgetExceededException or IOException;
    o.TimeLeft = TimeoutBudget.TimeLeft;
    o.BaseDelay = TimeSpan.FromMilliseconds(20);
});
await using ServiceProvider provider = services.BuildServiceProvider();
var budget = provider.GetRequiredKeyedService<TimeoutBudgetPolicy>("checkout");
var retry = provider.GetRequiredKeyedService<RetryPolicy>("printer");
var breaker = provider.GetRequiredKeyedService<CircuitBreaker>("printer");
var attemptTimeout = provider.GetRequiredKeyedService<TimeoutBudgetPolicy>("attempt");
int calls = 0;

string label = await budget.ExecuteAsync(token =>
    retry.ExecuteAsync(token =>
        breaker.ExecuteAsync(token =>
            attemptTimeout.ExecuteAsync(token =>
                PrintAsync(token), token), token), token));

Console.WriteLine($"{label}, after an attempt that hung and one that failed: {calls} calls");
return label == "printed" && calls == 3 ? 0 : 1;

async ValueTask<string> PrintAsync(CancellationToken cancellationToken)
{
    switch (++calls)
    {
        case 1:
            await Task.Delay(Timeout.Infinite, cancellationToken);
            break;
        case 2:
            throw new IOException("paper jam");
    }

    return "printed";
}
