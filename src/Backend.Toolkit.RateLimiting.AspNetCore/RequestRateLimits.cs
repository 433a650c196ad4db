using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.RateLimiting.AspNetCore;

/// <summary>What the policies said about a request, and where its handler settles the real cost: a feature of the <see cref="HttpContext"/>. Not for several threads at once.</summary>
public sealed class RequestRateLimits
{
    private Charged _first;
    private Charged[]? _further;
    private int _count;

    internal RequestRateLimits()
    {
    }

    /// <summary>The request was not let in; it is neither charged nor asked for again.</summary>
    internal bool IsOver { get; private set; }

    /// <summary>The names of the policies that admitted the request.</summary>
    public IEnumerable<string> Policies => Enumerable.Range(0, _count).Select(index => At(index).Policy.Name);

    /// <summary>The feature of a request.</summary>
    /// <param name="context">The request.</param>
    /// <returns>The feature; null where no policy holds for the request, or one refused it.</returns>
    public static RequestRateLimits? Of(HttpContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        return context.Features.Get<RequestRateLimits>() is { IsOver: false } limits ? limits : null;
    }

    /// <summary>What a policy said.</summary>
    /// <param name="policy">The name of the policy.</param>
    /// <param name="decision">The decision.</param>
    /// <returns>False: the policy does not hold for the request.</returns>
    public bool TryGetDecision(string policy, out RateLimitDecision decision)
    {
        int index = IndexOf(policy);
        decision = index < 0 ? default : At(index).Decision;
        return index >= 0;
    }

    /// <summary>Replaces what every policy charged by what the request really cost.</summary>
    /// <param name="actual">The permits.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="actual"/> is negative.</exception>
    /// <exception cref="InvalidOperationException">One was settled before.</exception>
    public void Settle(int actual)
    {
        for (int index = 0; index < _count; index++)
        {
            Settle(ref At(index), actual);
        }
    }

    /// <summary>Replaces what one policy charged by what the request really cost.</summary>
    /// <param name="policy">The name of the policy.</param>
    /// <param name="actual">The permits.</param>
    /// <exception cref="ArgumentException">The policy does not hold for the request.</exception>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="actual"/> is negative.</exception>
    /// <exception cref="InvalidOperationException">It was settled before.</exception>
    public void Settle(string policy, int actual)
    {
        int index = IndexOf(policy);
        if (index < 0)
        {
            throw new ArgumentException($"The policy must be one of those that hold for the request ({string.Join(", ", Policies)}), but is {policy}.", nameof(policy));
        }

        Settle(ref At(index), actual);
    }

    /// <summary>Metadata alone would pass unnoticed where the middleware did not run, so the endpoint itself looks.</summary>
    internal static void ThrowIfNotLimited(HttpContext context, EndpointMetadataCollection metadata, string? name)
    {
        if (metadata.GetMetadata<DisableRateLimitAttribute>() is not null)
        {
            return;
        }

        RequestRateLimits? limits = Of(context);
        foreach (RateLimitAttribute limit in metadata.GetOrderedMetadata<RateLimitAttribute>())
        {
            if (limits is null || limits.IndexOf(limit.Policy) < 0)
            {
                throw new InvalidOperationException(
                    $"Endpoint {name} has the rate limit '{limit.Policy}', but UseRateLimits() did not run for it. Call app.UseRateLimits() after UseRouting() and before the endpoints run.");
            }
        }
    }

    internal bool Has(Policy policy) => IndexOf(policy.Name) >= 0;

    internal void Add(Policy policy, in RateLimitDecision decision)
    {
        if (_count > 0)
        {
            Array.Resize(ref _further, _count);
        }

        _count++;
        At(_count - 1) = new Charged { Policy = policy, Decision = decision };
    }

    /// <summary>The request is not let in: another policy refused, or failed.</summary>
    internal void GiveBack(HttpContext context)
    {
        IsOver = true;
        context.Features.Set(this);
        for (int index = 0; index < _count; index++)
        {
            if (!At(index).IsSettled)
            {
                Settle(ref At(index), 0);
            }
        }
    }

    internal void WriteHeaders(HttpContext context)
    {
        string quotas = _first.Policy.QuotaOf(context), states = _first.Policy.StateOf(_first.Decision);
        for (int index = 1; index < _count; index++)
        {
            quotas = $"{quotas}, {At(index).Policy.QuotaOf(context)}";
            states = $"{states}, {At(index).Policy.StateOf(At(index).Decision)}";
        }

        context.Response.Headers[RateLimitMiddleware.PolicyHeader] = quotas;
        context.Response.Headers[RateLimitMiddleware.StateHeader] = states;
    }

    private static void Settle(ref Charged charged, int actual)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(actual);
        if (charged.IsSettled)
        {
            throw new InvalidOperationException($"The policy '{charged.Policy.Name}' was settled for this request before. Settle once, when the cost is known.");
        }

        charged.IsSettled = true;
        charged.Policy.Limiter.Settle(charged.Decision, actual);
    }

    private int IndexOf(string policy)
    {
        for (int index = 0; index < _count; index++)
        {
            if (At(index).Policy.Name == policy)
            {
                return index;
            }
        }

        return -1;
    }

    private ref Charged At(int index) => ref index == 0 ? ref _first : ref _further![index - 1];

    private struct Charged
    {
        public Policy Policy;
        public RateLimitDecision Decision;
        public bool IsSettled;
    }
}
