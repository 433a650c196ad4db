using System.Threading.Channels;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>
/// Delivers what is in the store, at least once. One loop makes deliveries of events and claims what is due, as many as there are slots; each claim is one attempt; one loop records outcomes, all that there are in one
/// transaction. A claim holds for a lease that is longer than the attempt's deadline, and its fence keeps a worker that was overtaken from recording. Several workers may share one store. A stop lets attempts
/// end; those that do not in time go back. Thread-safe.
/// </summary>
public sealed class WebhookDeliveryWorker : IHostedService, IAsyncDisposable
{
    private const int MostEventsAtATime = 256;
    private const int OutcomesAtATime = 128;
    private const int RowsAtATime = 1000;

    private static readonly TimeSpan ShortestPoll = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan MaintenanceInterval = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan StoreRetry = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LongFanOut = TimeSpan.FromMilliseconds(50);

    private readonly IWebhookDeliveryStore _store;
    private readonly TimeProvider _timeProvider;
    private readonly ILogger? _logger;
    private readonly AttemptSender _sender;
    private readonly EndpointLoad _load;
    private readonly Wakeup _wakeup;
    private readonly Channel<Finished> _finished = Channel.CreateUnbounded<Finished>(new UnboundedChannelOptions { SingleReader = true });
    private readonly CancellationTokenSource _stop = new();
    private readonly CancellationTokenSource _abort = new();
    private readonly Func<double> _random;
    private volatile Settings _settings;
    private volatile bool _enqueued;
    private string _lastEndpoint = "";
    private int _eventsAtATime = 16;
    private int _storeIsDown;
    private bool _maintenanceFails;
    private long? _maintained;
    private Task _claiming = Task.CompletedTask;
    private Task _recording = Task.CompletedTask;

    /// <summary>Makes a worker; it begins with <see cref="StartAsync"/>.</summary>
    /// <param name="options">The options.</param>
    /// <param name="store">The store.</param>
    /// <param name="timeProvider">Default: the system's.</param>
    /// <param name="logger">Default: none.</param>
    public WebhookDeliveryWorker(WebhookDeliveryOptions options, IWebhookDeliveryStore store, TimeProvider? timeProvider = null, ILogger<WebhookDeliveryWorker>? logger = null)
        : this(options, store, timeProvider, logger, null, null)
    {
    }

    internal WebhookDeliveryWorker(WebhookDeliveryOptions options, IWebhookDeliveryStore store, TimeProvider? timeProvider, ILogger? logger, HttpMessageHandler? handler, Func<double>? random)
    {
        ArgumentNullException.ThrowIfNull(store);
        _settings = new Settings(options);
        _store = store;
        _timeProvider = timeProvider ?? TimeProvider.System;
        _logger = logger;
        _random = random ?? Random.Shared.NextDouble;
        _sender = new AttemptSender(() => _settings, _timeProvider, handler);
        _load = new EndpointLoad(_timeProvider);
        _wakeup = new Wakeup(_timeProvider);
    }

    internal AttemptSender Sender => _sender;

    private WebhookDeliveryOptions Options => _settings.Options;

    /// <summary>New options hold from the next claim on; what is under way ends under the old ones.</summary>
    /// <param name="options">The options.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">They are invalid; the old ones stay in force.</exception>
    public void Update(WebhookDeliveryOptions options)
    {
        _settings = new Settings(options);
        _sender.Forget();
        _wakeup.Set();
    }

    /// <summary>An event was handed to a transaction of this process: the store is asked after 10 ms, 20 ms, 40 ms and so on, until the poll interval is reached again.</summary>
    public void Wake()
    {
        _enqueued = true;
        _wakeup.Set();
    }

    /// <summary>Makes the tables if that is the store's to do, and begins.</summary>
    /// <param name="cancellationToken">Ends the start.</param>
    /// <returns>When it has begun.</returns>
    public async Task StartAsync(CancellationToken cancellationToken = default)
    {
        await _store.PrepareAsync(cancellationToken).ConfigureAwait(false);
        _recording = Task.Run(RecordAllAsync, CancellationToken.None);
        _claiming = Task.Run(ClaimAllAsync, CancellationToken.None);
    }

    /// <summary>Claims nothing more; attempts under way end and are recorded, or, when the token ends the wait, go back to the queue.</summary>
    /// <param name="cancellationToken">Ends the wait for attempts.</param>
    /// <returns>When all is recorded.</returns>
    public async Task StopAsync(CancellationToken cancellationToken = default)
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _claiming.ConfigureAwait(false);
        using (cancellationToken.UnsafeRegister(static state => ((CancellationTokenSource)state!).Cancel(), _abort))
        {
            while (_load.UnderWay > 0)
            {
                await _wakeup.WaitAsync(StoreRetry, CancellationToken.None).ConfigureAwait(false);
                if (_abort.IsCancellationRequested && Volatile.Read(ref _storeIsDown) > 0)
                {
                    // Nothing can be given back; the leases end by themselves.
                    break;
                }
            }
        }

        _finished.Writer.TryComplete();
        await _recording.ConfigureAwait(false);
    }

    /// <summary>Stops at once; what is under way goes back to the queue.</summary>
    /// <returns>When it has stopped.</returns>
    public async ValueTask DisposeAsync()
    {
        if (!_finished.Reader.Completion.IsCompleted)
        {
            await StopAsync(new CancellationToken(canceled: true)).ConfigureAwait(false);
        }

        _sender.Dispose();
    }

    /// <summary>Makes deliveries of events, claims what is due and begins the attempts.</summary>
    /// <returns>Whether there may be more to do at once, and the attempts, for tests of one step.</returns>
    internal async Task<(bool Busy, Task Attempts)> StepAsync(CancellationToken cancellationToken)
    {
        WebhookDeliveryOptions options = Options;
        bool more = await FanOutAsync(cancellationToken).ConfigureAwait(false);
        int asked = 0;
        string lastAsked = "";
        string lastServed = "";
        bool full = false;
        Func<string, int, int> plan = _load.Plan(options);
        int Quota(string endpointId, int failures)
        {
            int quota = plan(endpointId, failures);
            asked++;
            lastAsked = endpointId;
            lastServed = quota > 0 ? endpointId : lastServed;
            full |= quota == 0;
            return quota;
        }

        var request = new WebhookClaimRequest(options.Lease, _lastEndpoint, Quota);
        long claimed = _timeProvider.GetTimestamp();

        // Not cancelled: a claim that was committed and not told would be nobody's until its lease is over.
        IReadOnlyList<WebhookClaim> claims = await _store.ClaimAsync(request, CancellationToken.None).ConfigureAwait(false);
        _lastEndpoint = full && lastServed.Length > 0 ? lastServed : lastAsked;
        Task[] attempts = [.. claims.Select(claim => AttemptAsync(claim, claimed, request.Lease))];
        return (more || claims.Count > 0 || (asked == request.MaxEndpoints && !full), Task.WhenAll(attempts));
    }

    /// <summary>An event may be for many endpoints, and one who writes meanwhile waits: so many events at a time as take about 50 ms.</summary>
    /// <returns>Whether there may be more.</returns>
    private async Task<bool> FanOutAsync(CancellationToken cancellationToken)
    {
        int limit = _eventsAtATime;
        long begun = _timeProvider.GetTimestamp();
        int events = await _store.FanOutAsync(limit, cancellationToken).ConfigureAwait(false);
        TimeSpan took = _timeProvider.GetElapsedTime(begun);
        _eventsAtATime = took > LongFanOut ? Math.Max(1, limit / 2) : events == limit && took < LongFanOut / 2 ? Math.Min(limit * 2, MostEventsAtATime) : limit;
        return events == limit;
    }

    /// <summary>Records what is finished, all of it.</summary>
    internal async Task RecordFinishedAsync()
    {
        while (_finished.Reader.TryPeek(out _))
        {
            await RecordBatchAsync().ConfigureAwait(false);
        }
    }

    private async Task ClaimAllAsync()
    {
        TimeSpan wait = TimeSpan.Zero;
        while (!_stop.IsCancellationRequested)
        {
            if (!Options.Deliver)
            {
                // New options wake it.
                await _wakeup.WaitAsync(MaintenanceInterval, _stop.Token).ConfigureAwait(false);
                continue;
            }

            try
            {
                if (_enqueued)
                {
                    _enqueued = false;
                    wait = TimeSpan.Zero;
                }

                (bool busy, _) = await StepAsync(_stop.Token).ConfigureAwait(false);
                StoreAnswered();
                await MaintainAsync(_stop.Token).ConfigureAwait(false);
                wait = busy ? TimeSpan.Zero : wait == TimeSpan.Zero ? ShortestPoll : Min(wait * 2, Options.PollInterval);
            }
            catch (Exception exception) when (!_stop.IsCancellationRequested)
            {
                StoreFailed(exception);
                wait = StoreRetry;
            }
            catch (Exception) when (_stop.IsCancellationRequested)
            {
                return;
            }

            if (wait > TimeSpan.Zero)
            {
                await _wakeup.WaitAsync(wait, _stop.Token).ConfigureAwait(false);
            }
        }
    }

    private async Task MaintainAsync(CancellationToken cancellationToken)
    {
        if (_maintained is { } last && _timeProvider.GetElapsedTime(last) < MaintenanceInterval)
        {
            return;
        }

        int rows = 0;
        try
        {
            rows = await _store.MaintainAsync(Options.Retention, RowsAtATime, cancellationToken).ConfigureAwait(false);
            _maintenanceFails = false;
        }
        catch (Exception exception) when (!cancellationToken.IsCancellationRequested)
        {
            // Such as a foreign key of the application's: no reason to deliver nothing.
            Telemetry.StoreFailed(Options.Name);
            if (!_maintenanceFails && _logger is not null)
            {
                Quietly(() => Log.MaintenanceFailed(_logger, exception, Options.Name));
            }

            _maintenanceFails = true;
        }

        if (Telemetry.WantsOldestDue)
        {
            Telemetry.DueSince(Options.Name, await _store.OldestDueAsync(cancellationToken).ConfigureAwait(false));
        }

        // A full batch: there are others, and deliveries come between.
        _maintained = rows >= RowsAtATime ? null : _timeProvider.GetTimestamp();
    }

    private async Task AttemptAsync(WebhookClaim claim, long claimed, TimeSpan lease)
    {
        WebhookDeliveryOptions options = Options;
        bool slow = _load.Begin(claim.Endpoint.Id, claim.Endpoint.ConsecutiveFailures);
        Answer answer = default;
        WebhookOutcome outcome;
        await Task.Yield();
        try
        {
            if (claim.Age > options.AttemptWindow)
            {
                outcome = new WebhookOutcome(claim, WebhookDeliveryState.Dead, TimeSpan.Zero, Verdict.WindowOver, null, Unknown);
            }
            else
            {
                // Who slept through its lease sends nothing: the delivery is somebody else's by now.
                bool late = _timeProvider.GetElapsedTime(claimed) > lease - options.AttemptTimeout;
                answer = late ? default : await _sender.SendAsync(claim, _abort.Token).ConfigureAwait(false);
                outcome = answer.IsNone ? Returned(claim) : Verdict.Of(claim, answer, options, _random());
            }
        }
        catch (Exception)
        {
            outcome = Returned(claim);
        }

        _finished.Writer.TryWrite(new Finished(outcome, answer, slow));
    }

    private static WebhookEndpointHealth Unknown { get; } = new(null, TimeSpan.Zero);

    private static WebhookOutcome Returned(WebhookClaim claim) => new(claim, WebhookDeliveryState.Pending, TimeSpan.Zero, null, null, Unknown);

    private async Task RecordAllAsync()
    {
        while (await _finished.Reader.WaitToReadAsync().ConfigureAwait(false))
        {
            await RecordBatchAsync().ConfigureAwait(false);
        }
    }

    private async Task RecordBatchAsync()
    {
        var batch = new List<Finished>();
        while (batch.Count < OutcomesAtATime && _finished.Reader.TryRead(out Finished finished))
        {
            batch.Add(finished);
        }

        WebhookOutcome[] outcomes = [.. batch.Select(finished => finished.Outcome)];
        while (true)
        {
            try
            {
                await _store.RecordAsync(outcomes, CancellationToken.None).ConfigureAwait(false);
                break;
            }
            catch (Exception exception)
            {
                StoreFailed(exception);
                if (_abort.IsCancellationRequested)
                {
                    break;
                }

                await Task.Delay(StoreRetry, _timeProvider, _abort.Token).ContinueWith(static _ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default).ConfigureAwait(false);
            }
        }

        foreach (Finished finished in batch)
        {
            Quietly(() => Tell(finished));
            _load.End(finished.Outcome.Claim.Endpoint.Id, finished.Slow, finished.Answer, Options);
        }

        _wakeup.Set();
    }

    private void Tell(Finished finished)
    {
        WebhookOutcome outcome = finished.Outcome;
        Telemetry.Attempted(Options.Name, outcome);
        if (outcome.Health.DisabledReason is string reason)
        {
            Telemetry.EndpointDisabled(Options.Name);
            if (_logger is not null)
            {
                Log.EndpointDisabled(_logger, Options.Name, outcome.Claim.Endpoint.Id, reason);
            }
        }

        if (!finished.Answer.IsEndpointsFault && finished.Answer.Error is not null && _logger is not null)
        {
            Log.SecretIsUnreadable(_logger, Options.Name, outcome.Claim.Endpoint.Id);
        }
    }

    private void StoreFailed(Exception exception)
    {
        Telemetry.StoreFailed(Options.Name);
        if (Interlocked.Exchange(ref _storeIsDown, 1) == 0 && _logger is not null)
        {
            Quietly(() => Log.StoreIsDown(_logger, exception, Options.Name));
        }
    }

    private void StoreAnswered()
    {
        if (Interlocked.Exchange(ref _storeIsDown, 0) == 1 && _logger is not null)
        {
            Quietly(() => Log.StoreIsBack(_logger, Options.Name));
        }
    }

    /// <summary>A logger that throws must not end a loop.</summary>
    private static void Quietly(Action tell)
    {
        try
        {
            tell();
        }
        catch (Exception)
        {
            // Nobody but the logger can mend it.
        }
    }

    private static TimeSpan Min(TimeSpan one, TimeSpan other) => one < other ? one : other;

    private readonly record struct Finished(WebhookOutcome Outcome, Answer Answer, bool Slow);
}
