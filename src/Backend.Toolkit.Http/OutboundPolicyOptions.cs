using System.Globalization;
using System.Net;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.RetryPolicies;
using Backend.Toolkit.TimeoutBudgets;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Http;

/// <summary>
/// What stands between a client and the network, from the outside in: budget, retry, circuit, attempt timeout. Each part has the options of its own
/// package; null leaves it out. The parts get their names from <see cref="Name"/>. The defaults are safe for any service.
/// </summary>
public sealed class OutboundPolicyOptions
{
    /// <summary>The label on metrics, in logs and in exceptions. Set by <c>AddOutboundPolicy</c> to the name of the client.</summary>
    public string Name { get; set; } = "";

    /// <summary>The time of one call, all its attempts and waits and the body of the response included. Null: no limit but the ambient budget's. Default 30 s.</summary>
    public TimeoutBudgetOptions? Budget { get; set; } = new();

    /// <summary>
    /// How often, and after which wait, a safe request is sent again. <see cref="RetryPolicyOptions.ShouldRetry"/> judges exceptions in place of the
    /// default (connections that fail, attempts that time out); responses are judged by <see cref="IsRetryable"/>. What is left of the budget is known: <see cref="RetryPolicyOptions.TimeLeft"/>
    /// is not asked, nor is <see cref="RetryPolicyOptions.DelayHint"/>: <c>Retry-After</c> says it. Null: never. Default: 3 attempts.
    /// </summary>
    public RetryPolicyOptions? Retry { get; set; } = new();

    /// <summary>The bound on the retries of all calls of this policy, unless <see cref="RetryPolicyOptions.Budget"/> has one to share. Null: none. Default: 10 tokens, 0.1.</summary>
    public RetryBudgetOptions? RetryBudget { get; set; } = new();

    /// <summary>
    /// One circuit per authority (scheme, host, port). <see cref="CircuitBreakerOptions.IsFailure"/> judges exceptions in place of the default (connections
    /// that fail, attempts that time out); responses are judged by <see cref="IsFailure"/>. Null: none. Default: at most 1 000 circuits.
    /// </summary>
    public CircuitBreakerGroupOptions? CircuitBreaker { get; set; } = new() { Capacity = 1_000 };

    /// <summary>The time of one attempt, up to the headers of its response. Null: no limit but the budget's. Default 10 s.</summary>
    public TimeoutBudgetOptions? Attempt { get; set; } = new() { Total = TimeSpan.FromSeconds(10) };

    /// <summary>Which responses are worth another attempt. When it throws, that one is not. Default null: 408, 425, 429, 500, 502, 503, 504.</summary>
    public Func<HttpResponseMessage, bool>? IsRetryable { get; set; }

    /// <summary>Which responses count as failures of the circuit. When it throws, that one does not count at all. Default null: 5xx.</summary>
    public Func<HttpResponseMessage, bool>? IsFailure { get; set; }

    /// <summary>Gives a POST or PATCH without an <c>Idempotency-Key</c> one, the same on every attempt, and so makes it safe to retry. Only for servers that honour it. Default false.</summary>
    public bool AttachIdempotencyKey { get; set; }

    /// <summary>
    /// The most bytes of a request's content that are kept in memory so that it can be sent again, where it cannot be read twice by itself. 0: none;
    /// at most 2 147 483 647. Default 65 536.
    /// </summary>
    public int RequestBufferLimit { get; set; } = 64 * 1024;

    /// <summary>Sends <c>Timeout-Budget</c>. Default true.</summary>
    public bool SendTimeoutBudget { get; set; } = true;

    /// <summary>Taken off the <c>Timeout-Budget</c> that is sent: what the way there and back costs. 0 to 1 day; default 10 ms.</summary>
    public TimeSpan NetworkAllowance { get; set; } = TimeSpan.FromMilliseconds(10);

    /// <summary>Whether reading the body of a response fails when the budget is spent. Default true.</summary>
    public bool CoverResponseBody { get; set; } = true;

    /// <summary>One sentence for each value that is out of range, those of the parts included: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        NameParts();
        return OwnProblems()
            .Concat(OfPart(nameof(Budget), Budget, Budget?.Name, Budget?.Problems()))
            .Concat(OfPart(nameof(Retry), Retry, Retry?.Name, Retry?.Problems()))
            .Concat(OfPart(nameof(RetryBudget), RetryBudget, RetryBudget?.Name, RetryBudget?.Problems()))
            .Concat(OfPart(nameof(CircuitBreaker), CircuitBreaker, CircuitBreaker?.Name, CircuitBreaker?.Problems()))
            .Concat(OfPart(nameof(Attempt), Attempt, Attempt?.Name, Attempt?.Problems()));
    }

    internal static bool IsRetryableStatus(HttpStatusCode status) => (int)status is 408 or 425 or 429 or 500 or 502 or 503 or 504;

    internal void ThrowIfInvalid()
    {
        List<string> problems = [.. Problems()];
        if (problems.Count > 0)
        {
            throw new OptionsValidationException(Name ?? "", GetType(), problems);
        }
    }

    /// <summary>So that what a part says begins with the name of the whole.</summary>
    internal void NameParts()
    {
        string name = Name ?? "";
        Budget?.Name = name;
        Retry?.Name = name;
        RetryBudget?.Name = name;
        CircuitBreaker?.Name = name;
        Attempt?.Name = AttemptName(name);
    }

    internal static string AttemptName(string name) => name.Length > 0 ? name + "-attempt" : "attempt";

    private IEnumerable<string> OwnProblems()
    {
        if (RequestBufferLimit < 0)
        {
            yield return Problem(nameof(RequestBufferLimit), "between 0 and 2147483647", RequestBufferLimit);
        }

        if (NetworkAllowance < TimeSpan.Zero || NetworkAllowance > TimeSpan.FromDays(1))
        {
            yield return Problem(nameof(NetworkAllowance), "between 0 and 1.00:00:00", NetworkAllowance);
        }

        if (Budget?.AbandonOnExpiry == true)
        {
            yield return Problem("Budget.AbandonOnExpiry", "false (a handler that ignores its token would go on with a request that its caller may dispose)", true);
        }

        if (Attempt?.AbandonOnExpiry == true)
        {
            yield return Problem("Attempt.AbandonOnExpiry", "false (a request is never sent again while it is still being sent)", true);
        }
    }

    /// <summary>What a part says begins with its name, or its type; here it begins with ours, and the property.</summary>
    private IEnumerable<string> OfPart(string property, object? part, string? name, IEnumerable<string>? problems) =>
        (problems ?? []).Select(problem => $"{Label}: {property}.{problem[((string.IsNullOrEmpty(name) ? part!.GetType().Name : name).Length + 2)..]}");

    private string Label => string.IsNullOrEmpty(Name) ? GetType().Name : Name;

    private string Problem(string property, string rule, object? value) =>
        string.Create(CultureInfo.InvariantCulture, $"{Label}: {property} must be {rule}, but is {value}.");
}
