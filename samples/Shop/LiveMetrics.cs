using System.Diagnostics.Metrics;
using Backend.Toolkit.RateLimiting;
using Backend.Toolkit.RateLimiting.AspNetCore;
using Backend.Toolkit.TimeoutBudgets;

namespace Shop;

/// <summary>A circuit entered a state; in milliseconds since 1970, as browsers count.</summary>
internal sealed record CircuitChange(long At, string State);

/// <summary>How many permits a client has left, of how many at most.</summary>
internal sealed record LimitLevel(long Left, long Most);

/// <summary>What happened between two looks, about orders and what they set off.</summary>
internal sealed class Counts
{
    /// <summary>A circuit that flaps faster than this is shown by its newest changes.</summary>
    public const int MostChanges = 32;

    public SortedDictionary<int, int> Answers { get; } = [];

    public Quantiles Seconds { get; } = new();

    /// <summary>Which part of its budget a request used.</summary>
    public Quantiles Spent { get; } = new();

    public List<CircuitChange> Changes { get; } = [];

    public long Retries { get; set; }

    public long Rejected { get; set; }

    public long Replays { get; set; }

    public long Refused { get; set; }

    public long Delivered { get; set; }

    public long Undelivered { get; set; }
}

/// <summary>Quantiles of some thousand values exactly, and of more by a fair choice of them: bounded memory.</summary>
internal sealed class Quantiles
{
    private const int Most = 4096;

    private readonly List<double> _values = [];
    private int _seen;

    public void Add(double value)
    {
        _seen++;
        if (_values.Count < Most)
        {
            _values.Add(value);
        }
        else if (Random.Shared.Next(_seen) is var place and < Most)
        {
            _values[place] = value;
        }
    }

    /// <returns>By nearest rank; null when there are no values.</returns>
    public double? At(double part) => _values.Count == 0 ? null : _values.Order().ElementAt((int)Math.Ceiling(part * _values.Count) - 1);
}

/// <summary>
/// Counts what the instruments of ASP.NET Core and of the packages say, by their names in this shop. That of ASP.NET Core tells its application; those of the packages are one per process, so a second
/// shop in the process would be counted, too. What has no instrument, budgets and limiter levels, two middlewares see.
/// </summary>
internal sealed class LiveMetrics : IDisposable
{
    private readonly MeterListener _listener = new();
    private readonly Lock _gate = new();
    private readonly TimeProvider _time;
    private Counts _counts = new();
    private (RateLimitDecision Decision, long Most, long At)? _limit;

    public LiveMetrics(IMeterFactory own, TimeProvider time)
    {
        _time = time;
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Name == "http.server.request.duration" ? instrument.Meter.Scope == own : instrument.Meter.Name.StartsWith("Backend.Toolkit.", StringComparison.Ordinal) && instrument is Counter<long>)
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<double>((_, seconds, tags, _) => Answered(seconds, tags));
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Count(instrument.Name, value, tags));
        _listener.Start();
    }

    /// <summary>What was counted since the last call.</summary>
    public Counts Take()
    {
        lock (_gate)
        {
            (Counts taken, _counts) = (_counts, new Counts());
            return taken;
        }
    }

    /// <summary>What the client who asked last has left by now: a bucket fills evenly. Null: nobody has asked, or there is no limit.</summary>
    public LimitLevel? Limit()
    {
        lock (_gate)
        {
            if (_limit is not var (decision, most, at))
            {
                return null;
            }

            long missing = most - decision.Remaining;
            double filled = decision.ResetAfter > TimeSpan.Zero ? Math.Min(1, _time.GetElapsedTime(at) / decision.ResetAfter) : 1;
            return new LimitLevel(decision.Remaining + (long)(missing * filled), most);
        }
    }

    /// <summary>Inside <c>UseRateLimits</c>.</summary>
    public Task SeeLimitAsync(HttpContext context, RequestDelegate next)
    {
        if (RequestRateLimits.Of(context) is { } limits && limits.TryGetDecision("client", out RateLimitDecision decision))
        {
            RateLimit limit = context.RequestServices.GetRequiredKeyedService<KeyedRateLimiter<HttpContext>>("client").LimitsOf(context)[0];
            lock (_gate)
            {
                _limit = (decision, limit.Burst ?? (long)limit.Permits, _time.GetTimestamp());
            }
        }

        return next(context);
    }

    /// <summary>Inside <c>UseTimeoutBudgets</c>.</summary>
    public async Task SeeBudgetAsync(HttpContext context, RequestDelegate next)
    {
        try
        {
            await next(context);
        }
        finally
        {
            if (IsOrder(context.Request.Method, context.Request.Path) && TimeoutBudget.Current is { } budget && budget.Total > TimeSpan.Zero)
            {
                lock (_gate)
                {
                    _counts.Spent.Add(Math.Clamp(1 - (budget.Remaining / budget.Total), 0, 1));
                }
            }
        }
    }

    public void Dispose() => _listener.Dispose();

    private static bool IsOrder(string? method, string? path) => method == HttpMethods.Post && path == "/orders";

    private static object? Tag(ReadOnlySpan<KeyValuePair<string, object?>> tags, string name)
    {
        foreach ((string key, object? value) in tags)
        {
            if (key == name)
            {
                return value;
            }
        }

        return null;
    }

    private void Answered(double seconds, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        if (IsOrder(Tag(tags, "http.request.method") as string, Tag(tags, "http.route") as string) && Tag(tags, "http.response.status_code") is int status)
        {
            lock (_gate)
            {
                _counts.Answers[status] = _counts.Answers.GetValueOrDefault(status) + 1;
                _counts.Seconds.Add(seconds);
            }
        }
    }

    private void Count(string instrument, long value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        string? result = Tag(tags, "result") as string;
        lock (_gate)
        {
            switch (instrument, Tag(tags, "name"))
            {
                case ("backend.toolkit.retry.retries", "payments"):
                    _counts.Retries += value;
                    break;
                case ("backend.toolkit.circuit_breaker.rejected", "payments"):
                    _counts.Rejected += value;
                    break;
                case ("backend.toolkit.circuit_breaker.transitions", "payments"):
                    Changed((string)Tag(tags, "state")!);
                    break;
                case ("backend.toolkit.idempotency.begun", "orders") when result == "completed":
                    _counts.Replays += value;
                    break;
                case ("backend.toolkit.ratelimit.requests" or "backend.toolkit.ratelimit.redis.requests", "client") when result == "refused":
                    _counts.Refused += value;
                    break;
                case ("backend.toolkit.webhooks.delivery.attempts", DashboardFeed.Deliveries) when result is "delivered":
                    _counts.Delivered += value;
                    break;
                case ("backend.toolkit.webhooks.delivery.attempts", DashboardFeed.Deliveries) when result is "failed" or "dead":
                    _counts.Undelivered += value;
                    break;
            }
        }
    }

    private void Changed(string state)
    {
        if (_counts.Changes.Count == Counts.MostChanges)
        {
            _counts.Changes.RemoveAt(0);
        }

        _counts.Changes.Add(new CircuitChange(_time.GetUtcNow().ToUnixTimeMilliseconds(), state));
    }
}
