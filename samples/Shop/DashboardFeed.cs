using System.Net.ServerSentEvents;
using System.Runtime.CompilerServices;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.Http;
using Backend.Toolkit.Webhooks.Delivery;

namespace Shop;

/// <summary>A second of the shop. Null: not known, or not there.</summary>
internal sealed record Sample
{
    /// <summary>Its end, in milliseconds since 1970, as browsers count.</summary>
    public required long At { get; init; }

    public required double Seconds { get; init; }

    /// <summary>How often POST /orders was answered with each status.</summary>
    public required IReadOnlyDictionary<int, int> Answers { get; init; }

    /// <summary>In milliseconds.</summary>
    public double? P50 { get; init; }

    public double? P99 { get; init; }

    /// <summary>Which part of their budget requests used.</summary>
    public double? Spent50 { get; init; }

    public double? Spent99 { get; init; }

    public string? Circuit { get; init; }

    public IReadOnlyList<CircuitChange> Changes { get; init; } = [];

    /// <summary>Calls to payments that the open circuit answered.</summary>
    public long Rejected { get; init; }

    public long Retries { get; init; }

    public double? RetriesLeft { get; init; }

    public LimitLevel? Limit { get; init; }

    public long Refused { get; init; }

    public long Replays { get; init; }

    public long Delivered { get; init; }

    public long Undelivered { get; init; }

    /// <summary>Counted up to <see cref="DashboardFeed.CountedTo"/>.</summary>
    public int? Pending { get; init; }

    public int? DeadLetters { get; init; }

    public Fault? Payments { get; init; }

    public bool? CustomerBroken { get; init; }

    public LoadState? Load { get; init; }
}

/// <summary>Looks at the shop once a second, keeps the last three minutes, and tells whoever listens: one sampler for all, and nothing kept for each.</summary>
internal sealed class DashboardFeed(
    LiveMetrics metrics,
    LoadRun load,
    Controls controls,
    WebhookDeliveries deliveries,
    IServiceProvider provider,
    IHostApplicationLifetime lifetime,
    TimeProvider time) : BackgroundService
{
    public const int MostListeners = 32;
    public const int CountedTo = 200;

    /// <summary>What webhooks to customers are called on metrics: payments may send its own from the same process.</summary>
    public const string Deliveries = "customers";

    private const int Kept = 180;

    private static readonly TimeSpan Period = TimeSpan.FromSeconds(1);

    private readonly Lock _gate = new();
    private readonly Queue<Sample> _samples = [];
    private TaskCompletionSource _next = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _number;
    private int _listeners;

    /// <returns>What is disposed when the listener leaves; null when there are enough of them.</returns>
    public IDisposable? TryJoin()
    {
        if (Interlocked.Increment(ref _listeners) <= MostListeners)
        {
            return new Seat(this);
        }

        Interlocked.Decrement(ref _listeners);
        return null;
    }

    /// <summary>What is kept, then each new sample, until the listener leaves or the shop stops. Who is slow gets several at a time, and never more than are kept.</summary>
    public async IAsyncEnumerable<SseItem<Sample[]>> ReadAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, lifetime.ApplicationStopping);
        (Sample[] samples, long number, Task next) = Since(0);
        yield return new SseItem<Sample[]>(samples, "history") { ReconnectionInterval = Period };
        while (await HappensAsync(next, ended.Token))
        {
            (samples, number, next) = Since(number);
            yield return new SseItem<Sample[]>(samples, "samples");
        }
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Period, time);
        long last = time.GetTimestamp();
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            long now = time.GetTimestamp();
            Add(await SampleAsync(time.GetElapsedTime(last, now), stoppingToken));
            last = now;
        }
    }

    private static async Task<bool> HappensAsync(Task next, CancellationToken ended)
    {
        try
        {
            await next.WaitAsync(ended);
            return true;
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    private static string Text(CircuitState state) => state switch
    {
        CircuitState.Closed => "closed",
        CircuitState.Open => "open",
        CircuitState.HalfOpen => "half_open",
        _ => "isolated",
    };

    private void Add(Sample sample)
    {
        TaskCompletionSource happened;
        lock (_gate)
        {
            if (_samples.Count == Kept)
            {
                _samples.Dequeue();
            }

            _samples.Enqueue(sample);
            _number++;
            (happened, _next) = (_next, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
        }

        happened.SetResult();
    }

    private (Sample[] Samples, long Number, Task Next) Since(long number)
    {
        lock (_gate)
        {
            return ([.. _samples.TakeLast((int)Math.Min(_number - number, Kept))], _number, _next.Task);
        }
    }

    private async Task<Sample> SampleAsync(TimeSpan elapsed, CancellationToken cancellationToken)
    {
        Counts counts = metrics.Take();
        OutboundPolicy? policy = provider.GetKeyedService<OutboundPolicy>("payments");
        Uri payments = controls.Payments;

        // Who does not answer by then is shown as unknown, and the next second is looked at in time.
        using var soon = new CancellationTokenSource(Period, time);
        using var given = CancellationTokenSource.CreateLinkedTokenSource(soon.Token, cancellationToken);
        Task<Fault?> fault = controls.FaultAsync(given.Token);
        Task<bool?> broken = controls.IsCustomerBrokenAsync(given.Token);
        return new Sample
        {
            At = time.GetUtcNow().ToUnixTimeMilliseconds(),
            Seconds = elapsed.TotalSeconds,
            Answers = counts.Answers,
            P50 = 1000 * counts.Seconds.At(0.5),
            P99 = 1000 * counts.Seconds.At(0.99),
            Spent50 = counts.Spent.At(0.5),
            Spent99 = counts.Spent.At(0.99),
            Circuit = policy is null ? null : Text(policy.CircuitBreakers.For(new HttpAuthority(payments.Scheme, payments.Host, payments.Port)).State),
            Changes = counts.Changes,
            Rejected = counts.Rejected,
            Retries = counts.Retries,
            RetriesLeft = policy?.RetryBudget.Tokens,
            Limit = metrics.Limit(),
            Refused = counts.Refused,
            Replays = counts.Replays,
            Delivered = counts.Delivered,
            Undelivered = counts.Undelivered,
            Pending = await CountAsync(WebhookDeliveryState.Pending, given.Token),
            DeadLetters = await CountAsync(WebhookDeliveryState.Dead, given.Token),
            Payments = await fault,
            CustomerBroken = await broken,
            Load = load.State,
        };
    }

    private async Task<int?> CountAsync(WebhookDeliveryState state, CancellationToken cancellationToken)
    {
        try
        {
            return (await deliveries.ListAsync(new WebhookDeliveryFilter(Audience: Subscriptions.Audience, State: state), limit: CountedTo, cancellationToken: cancellationToken)).Count;
        }
        catch (Exception)
        {
            // The database is down or busy, in whatever words its driver says so: that is shown, and no reason to stop.
            return null;
        }
    }

    private sealed class Seat(DashboardFeed feed) : IDisposable
    {
        public void Dispose() => Interlocked.Decrement(ref feed._listeners);
    }
}
