using System.Collections.Concurrent;
using Backend.Toolkit.CircuitBreakers;

namespace Shop;

/// <summary>What <c>/state</c> shows. Answers: how often POST /orders was answered with each status.</summary>
internal sealed record ShopState(string Payments, CircuitState Circuit, double RetriesLeft, long PaymentsCalls, long Retries, IReadOnlyDictionary<int, long> Answers);

/// <summary>Counts what comes in and what goes out.</summary>
internal sealed class Traffic
{
    private readonly ConcurrentDictionary<int, long> _answers = new();
    private long _calls;
    private long _retries;

    public async Task CountAsync(HttpContext context, RequestDelegate next)
    {
        await next(context);
        if (HttpMethods.IsPost(context.Request.Method) && context.Request.Path == "/orders")
        {
            _answers.AddOrUpdate(context.Response.StatusCode, 1, static (_, count) => count + 1);
        }
    }

    public void CountCall(bool isRetry)
    {
        Interlocked.Increment(ref _calls);
        if (isRetry)
        {
            Interlocked.Increment(ref _retries);
        }
    }

    public ShopState State(string payments, CircuitState circuit, double retriesLeft) =>
        new(payments, circuit, retriesLeft, Interlocked.Read(ref _calls), Interlocked.Read(ref _retries), new SortedDictionary<int, long>(_answers));
}

/// <summary>Behind the policy, so that it sees each attempt.</summary>
internal sealed class CountedAttempts(Traffic traffic) : DelegatingHandler
{
    protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        traffic.CountCall(isRetry: request.Headers.Contains("Retry-Attempt"));
        return base.SendAsync(request, cancellationToken);
    }
}
