#:project ../src/Backend.Toolkit.RetryPolicies/Backend.Toolkit.RetryPolicies.csproj
#:package Microsoft.Extensions.DependencyInjection

// Retry policies: a flaky call, a busy server that says when to come back, a deadline, and a budget that two policies share.
using Backend.Toolkit.RetryPolicies;
using Microsoft.Extensions.DependencyInjection;

// 1. In a container: a policy by name, and a budget that several share.
var services = new ServiceCollection();
services.AddRetryBudget("payments-host", o => o.MaxTokens = 20);
services.AddRetryPolicy("payments", (o, provider) =>
{
    o.MaxAttempts = 4;
    o.BaseDelay = TimeSpan.FromMilliseconds(20);
    o.Budget = provider.GetRequiredKeyedService<RetryBudget>("payments-host");
});

await using ServiceProvider provider = services.BuildServiceProvider();
var payments = provider.GetRequiredKeyedService<RetryPolicy>("payments");

// Stands for somebody else's service, which fails twice.
int calls = 0;
Task<string> PayAsync(CancellationToken token) => ++calls < 3 ? throw new IOException("connection reset") : Task.FromResult("paid");
string receipt = await payments.ExecuteAsync(token => PayAsync(token), CancellationToken.None);
Console.WriteLine($"A flaky call: {receipt}, after {calls} calls");

// 2. By hand: results are retried too, and the server says when to come back.
var busy = new Server(busyAnswers: 1);
var polite = new RetryPolicy(new RetryPolicyOptions { MaxDelayHint = TimeSpan.FromSeconds(1) }
    .RetryOn<Answer>(answer => answer.Status == 503)
    .DelayHintFor<Answer>(answer => answer.RetryAfter));

Answer answer = await polite.ExecuteAsync(static (server, attempt, ct) => server.GetAsync(attempt.Number, ct), busy);

Console.WriteLine($"A busy server:      {answer.Status} at attempt {answer.Attempt}");

// 3. Within a deadline: a retry that cannot finish in time is not waited for.
var down = new Server(failures: int.MaxValue);
var deadline = TimeProvider.System.GetTimestamp() + TimeProvider.System.TimestampFrequency / 10;
var hurried = new RetryPolicy(new RetryPolicyOptions
{
    BaseDelay = TimeSpan.FromSeconds(2),
    Jitter = RetryJitter.None,
    TimeLeft = () => TimeProvider.System.GetElapsedTime(TimeProvider.System.GetTimestamp(), deadline),
    ExpectedAttemptTime = TimeSpan.FromMilliseconds(20),
});

try
{
    await hurried.ExecuteAsync(ct => down.PayAsync(ct));
}
catch (IOException exception)
{
    Console.WriteLine($"Too late to retry:  \"{exception.Message}\" came out at once, after {down.Calls} call");
}

// 4. Within a budget: when nearly everything fails, nearly nothing is retried.
var budget = new RetryBudget(new RetryBudgetOptions { Rule = RetryBudgetRule.Ratio, RetryRatio = 0.1, MinRetriesPerSecond = 0 });
var bounded = new RetryPolicy(new RetryPolicyOptions { BaseDelay = TimeSpan.Zero, Budget = budget });
var broken = new Server(failures: int.MaxValue);
for (int i = 0; i < 1000; i++)
{
    try
    {
        await bounded.ExecuteAsync(ct => broken.PayAsync(ct));
    }
    catch (IOException)
    {
    }
}

Console.WriteLine($"A budget of 10 %:   1000 failing requests made {broken.Calls} calls instead of 3000");
return calls == 3 && answer.Status == 200 && down.Calls == 1 && broken.Calls == 1100 ? 0 : 1;

internal sealed record Answer(int Status, int Attempt, TimeSpan? RetryAfter);

/// <summary>Stands for something on the other side of a network.</summary>
internal sealed class Server(int failures = 0, int busyAnswers = 0)
{
    public int Calls { get; private set; }

    public Task<string> PayAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return ++Calls <= failures ? throw new IOException("connection reset") : Task.FromResult("paid");
    }

    public ValueTask<Answer> GetAsync(int attempt, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return new ValueTask<Answer>(++Calls <= busyAnswers ? new Answer(503, attempt, TimeSpan.FromMilliseconds(50)) : new Answer(200, attempt, null));
    }
}
