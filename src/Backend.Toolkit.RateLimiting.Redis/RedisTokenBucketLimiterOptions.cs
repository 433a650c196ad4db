using System.Globalization;
using Microsoft.Extensions.Options;
using StackExchange.Redis;

namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>Options of a <see cref="RedisTokenBucketLimiter{TResource}"/>.</summary>
/// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
public sealed class RedisTokenBucketLimiterOptions<TResource>
{
    /// <summary>The label on metrics and in logs, and a part of the keys in the store: limiters of one name share their limits. Without braces. Set by <c>AddRedisTokenBucketLimiter</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>The application's connection. Required; <c>AddRedisTokenBucketLimiter</c> takes the one that the container has. Read when the limiter is made.</summary>
    public IConnectionMultiplexer? Connection { get; set; }

    /// <summary>By what is counted. When it throws, that is logged and the request counts as one without a key. Required; <c>AddRedisTokenBucketLimiter</c> takes it as an argument.</summary>
    public Func<TResource, RateLimitKey>? KeySelector { get; set; }

    /// <summary>One to four limits that must all admit a request, over all nodes together; refused by one, it is charged under none. No default.</summary>
    public IList<RateLimit> Limits { get; } = [];

    /// <summary>
    /// The limits of a key of its own, such as a tenant's plan; null: those in <see cref="Limits"/>. At most as many of them; at most 254 different lists. Others, or a delegate that throws, are
    /// logged, and <see cref="Limits"/> hold. Default null.
    /// </summary>
    public Func<TResource, IReadOnlyList<RateLimit>?>? LimitsFor { get; set; }

    /// <summary>Put before the names of all keys, without braces. Default <c>rate-limit:</c>.</summary>
    public string KeyPrefix { get; set; } = "rate-limit:";

    /// <summary>
    /// The most permits of one key that a node takes ahead and spends by itself; never more than the burst ÷ <see cref="Nodes"/>. For a request that costs more the store is asked. 0 to 1 000 000;
    /// default 0: the store is asked for every request, and the limit is exact over all nodes.
    /// </summary>
    public int LeaseSize { get; set; }

    /// <summary>How many nodes share the limit, 1 or more: paces leases, and divides the limit during an outage. When it throws, the number before holds. Default null: 1.</summary>
    public Func<int>? Nodes { get; set; }

    /// <summary>How long the store may take to answer. 1 ms to 1 minute; default 50 ms.</summary>
    public TimeSpan StoreTimeout { get; set; } = TimeSpan.FromMilliseconds(50);

    /// <summary>Whether, while the store does not answer, a bucket on this node with the limits ÷ <see cref="Nodes"/> decides. Default true.</summary>
    public bool LocalFallback { get; set; } = true;

    /// <summary>
    /// Whether a request is admitted that nobody can decide: the store does not answer, and there is no <see cref="LocalFallback"/> or its bucket is too small for what the request costs.
    /// Default false: it is refused.
    /// </summary>
    public bool FailOpen { get; set; }

    /// <summary>For how many keys this node remembers leases and refusals (about 470 bytes each with keys of 15 characters), and has room in its local buckets (17 bytes each). 64 to 1 048 576; default 65 536.</summary>
    public int Capacity { get; set; } = 65_536;

    /// <summary>Shadow mode: counts and charges as ever, but admits what it would refuse (<see cref="RateLimitDecision.IsShadowRefusal"/>), charging nothing for it. Default false.</summary>
    public bool Shadow { get; set; }

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (string.IsNullOrEmpty(Name) || HasBraces(Name))
        {
            yield return Problem(nameof(Name), "not empty and without braces", $"'{Name}'");
        }

        foreach (string problem in LimitProblems(Name, Limits))
        {
            yield return problem;
        }

        if (Connection is null)
        {
            yield return Problem(nameof(Connection), "set, or an IConnectionMultiplexer be registered", "null");
        }

        if (KeySelector is null)
        {
            yield return Problem(nameof(KeySelector), "set", "null");
        }

        if (KeyPrefix is null || HasBraces(KeyPrefix))
        {
            yield return Problem(nameof(KeyPrefix), "a text without braces", KeyPrefix is null ? "null" : $"'{KeyPrefix}'");
        }

        if (LeaseSize is < 0 or > 1_000_000)
        {
            yield return Problem(nameof(LeaseSize), "between 0 and 1000000", LeaseSize);
        }

        if (StoreTimeout < TimeSpan.FromMilliseconds(1) || StoreTimeout > TimeSpan.FromMinutes(1))
        {
            yield return Problem(nameof(StoreTimeout), $"between {TimeSpan.FromMilliseconds(1)} and {TimeSpan.FromMinutes(1)}", StoreTimeout);
        }

        if (Capacity is < 64 or > 1_048_576)
        {
            yield return Problem(nameof(Capacity), "between 64 and 1048576", Capacity);
        }
    }

    /// <summary>The rules for limits are those of a local token bucket.</summary>
    internal static IEnumerable<string> LimitProblems(string? name, IEnumerable<RateLimit> limits)
    {
        var bucket = new TokenBucketLimiterOptions { Name = string.IsNullOrEmpty(name) ? TypeName : name };
        foreach (RateLimit limit in limits)
        {
            bucket.Limits.Add(limit);
        }

        return bucket.Problems();
    }

    internal void ThrowIfInvalid()
    {
        List<string> problems = [.. Problems()];
        if (problems.Count > 0)
        {
            throw new OptionsValidationException(Name ?? "", GetType(), problems);
        }
    }

    private static string TypeName => nameof(RedisTokenBucketLimiterOptions<>);

    private static bool HasBraces(string text) => text.AsSpan().ContainsAny('{', '}');

    private string Problem(string property, string rule, object? value) =>
        string.Create(CultureInfo.InvariantCulture, $"{(string.IsNullOrEmpty(Name) ? TypeName : Name)}: {property} must be {rule}, but is {value}.");
}
