using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.RateLimiting.AspNetCore;

/// <summary>Which policies hold for an endpoint: that of the whole application first, then its own in order, each once. Worked out once for each endpoint.</summary>
internal sealed class EndpointPolicies(IServiceProvider services, string? everywhere, Func<HttpContext, int>? cost)
{
    private readonly ConditionalWeakTable<Endpoint, Entry[]> _ofEndpoints = [];
    private readonly Dictionary<string, Policy> _policies = [];
    private readonly Entry[] _everywhere = [];
    private Entry[]? _ofNone;

    public Entry[] Of(Endpoint? endpoint)
    {
        if (endpoint is null)
        {
            return _ofNone ??= everywhere is null ? _everywhere : [new Entry(Find(everywhere), cost)];
        }

        return _ofEndpoints.TryGetValue(endpoint, out Entry[]? entries) ? entries : Make(endpoint);
    }

    private Entry[] Make(Endpoint endpoint)
    {
        List<Entry> entries = [];
        if (endpoint.Metadata.GetMetadata<DisableRateLimitAttribute>() is null)
        {
            entries.AddRange(Of(null));
            foreach (RateLimitAttribute own in endpoint.Metadata.GetOrderedMetadata<RateLimitAttribute>())
            {
                int index = entries.FindIndex(entry => entry.Policy.Name == own.Policy);
                if (index < 0)
                {
                    entries.Add(new Entry(Find(own.Policy), own.Cost));
                }
                else if (own.Cost is not null)
                {
                    // The nearest to the endpoint knows best what a request costs.
                    entries[index] = entries[index] with { Cost = own.Cost };
                }
            }
        }

        Entry[] made = [.. entries];
        _ofEndpoints.AddOrUpdate(endpoint, made);
        return made;
    }

    private Policy Find(string name)
    {
        lock (_policies)
        {
            if (!_policies.TryGetValue(name, out Policy? policy))
            {
                KeyedRateLimiter<HttpContext> limiter = services.GetKeyedService<KeyedRateLimiter<HttpContext>>(name) ?? throw new InvalidOperationException(
                    $"There is no rate limit policy '{name}'. Register one: services.AddTokenBucketLimiter<HttpContext>(\"{name}\", RateLimitKeys.IpPrefix, options => …).");
                _policies[name] = policy = new Policy(name, limiter);
            }

            return policy;
        }
    }

    internal readonly record struct Entry(Policy Policy, Func<HttpContext, int>? Cost);
}
