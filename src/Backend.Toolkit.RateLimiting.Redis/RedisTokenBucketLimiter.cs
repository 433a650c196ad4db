using System.Collections.Concurrent;
using System.Threading.RateLimiting;
using Microsoft.Extensions.Logging;
using StackExchange.Redis;

namespace Backend.Toolkit.RateLimiting.Redis;

/// <summary>
/// A token bucket for each key that all nodes share, on Redis. Without leases each request is one call of a script (<see cref="BucketScript"/>), and the limit is exact over all nodes; with
/// leases of b a node takes up to b permits ahead and spends them by itself: in any interval w no more is admitted than burst + rate × w + nodes × b. A refusal is repeated here until it is due.
/// While the store does not answer: the lease, then a bucket of this node with its share of the limits, then open or closed. Thread-safe. Instants on this node are monotonic; the bucket lives on
/// the clock of the store.
/// </summary>
/// <typeparam name="TResource">What is limited: a request, a caller.</typeparam>
public sealed class RedisTokenBucketLimiter<TResource> : KeyedRateLimiter<TResource>
{
    private const int MostPlans = 254;

    /// <summary>How often the shares of all nodes accrue anew while a lease lives: what leases let go to waste is at most this part of the rate, however uneven the load.</summary>
    private const int LivesOfAShare = 20;

    private readonly IDatabase _database;
    private readonly BucketScript _script;
    private readonly TimeProvider _timeProvider;
    private readonly long _start;
    private readonly ILogger? _logger;
    private readonly StoreHealth _health;
    private readonly LocalBuckets<TResource> _local;
    private readonly ConcurrentDictionary<IReadOnlyList<RateLimit>, BucketPlan?> _plans = new(LimitsComparer.Instance);
    private volatile RedisTokenBucketLimiterSettings<TResource> _settings;
    private int _nodes = 1;
    private long _quietUntil = long.MinValue;
    private volatile bool _isDisposed;

    /// <summary>Makes a limiter. Calls nobody yet.</summary>
    /// <param name="options">The options; copied.</param>
    /// <param name="timeProvider">The source of this node's time; default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Where it is logged that the store is down or up again, and what delegates throw.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the message names all that are.</exception>
    public RedisTokenBucketLimiter(RedisTokenBucketLimiterOptions<TResource> options, TimeProvider? timeProvider = null, ILogger<RedisTokenBucketLimiter<TResource>>? logger = null)
        : this(options, timeProvider, logger, new BucketScript())
    {
    }

    internal RedisTokenBucketLimiter(RedisTokenBucketLimiterOptions<TResource> options, TimeProvider? timeProvider, ILogger? logger, BucketScript script)
    {
        ArgumentNullException.ThrowIfNull(options);
        _settings = SettingsOf(options, new KeyStates());
        _database = options.Connection!.GetDatabase();
        (_script, _logger, _timeProvider) = (script, logger, timeProvider ?? TimeProvider.System);
        _start = _timeProvider.GetTimestamp();
        _health = new StoreHealth(_settings.Name, logger);
        _local = new LocalBuckets<TResource>(KeyOf, PlanOf, _timeProvider);
    }

    /// <inheritdoc/>
    public override string Name => _settings.Name;

    /// <summary>For how many keys this node remembers something.</summary>
    internal int RememberedKeys => _settings.States.Count;

    private long Now => _timeProvider.GetElapsedTime(_start).Ticks;

    /// <summary>Gives the limiter new numbers. What was charged stays charged, also where other nodes still have the old ones; the name and the connection stay.</summary>
    /// <param name="options">The options; copied.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the old options stay in force.</exception>
    public void Update(RedisTokenBucketLimiterOptions<TResource> options)
    {
        ArgumentNullException.ThrowIfNull(options);
        RedisTokenBucketLimiterSettings<TResource> before = _settings;

        // Under another prefix all keys are others. Requests that began before go on with what they know.
        _settings = SettingsOf(options, options.KeyPrefix == before.KeyPrefix ? before.States : new KeyStates()) with { Name = before.Name };
    }

    /// <inheritdoc/>
    public override IReadOnlyList<RateLimit> LimitsOf(TResource resource) => PlanOf(resource).Limits;

    /// <summary>
    /// Decides without a call to the store: from the lease, from a refusal that is not due yet, and while the store is skipped from the bucket of this node. Else refuses, and where a lease is large
    /// enough asks for one, which will be there after about the time that it says.
    /// </summary>
    /// <inheritdoc/>
    public override bool TryAcquire(TResource resource, int permits, out RateLimitDecision decision)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(permits);
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        Request request = RequestOf(resource, permits);
        if (!TryDecide(request, out decision))
        {
            if (request.State is not null && permits <= request.LeaseSize)
            {
                _ = JoinOrStart(request, reserved: 0, out _, out _);
            }

            decision = _health.IsSkipped
                ? Fallback(request)
                : Counted(request.Settings, "node", new RateLimitDecision(false, permits, 0, permits > request.Plan.Most ? Timeout.InfiniteTimeSpan : request.Settings.StoreTimeout, TimeSpan.Zero));
        }

        return decision.IsAdmitted;
    }

    /// <inheritdoc/>
    public override ValueTask<RateLimitDecision> AcquireDecisionAsync(TResource resource, int permits = 1, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(permits);
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<RateLimitDecision>(cancellationToken);
        }

        Request request = RequestOf(resource, permits);
        return TryDecide(request, out RateLimitDecision decision) ? new ValueTask<RateLimitDecision>(decision)
            : request.State is not null && permits is > 0 && permits <= request.LeaseSize ? AskForLeaseAsync(request, cancellationToken)
            : AskAsync(request, cancellationToken);
    }

    /// <summary>
    /// Replaces what a decision charged by what the request really cost. Permits of a lease go back to it; others are given back to the store, or charged there, by a call that nobody waits for:
    /// where it fails that is logged.
    /// </summary>
    /// <inheritdoc/>
    public override void Settle(in RateLimitDecision decision, int actual)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(actual);
        if (!decision.IsAdmitted || decision.IsShadowRefusal || actual == decision.Permits)
        {
            return;
        }

        long back = (long)decision.Permits - actual;
        switch (decision.Source)
        {
            case StoreCharge charge:
                _ = SettleAsync(charge, decision.Permits, back);
                break;
            case Lease lease when lease.Settle(back, Now) is > 0 and long owed && lease.Key.Plan is { } plan:
                _ = SettleAsync(new StoreCharge(default, lease.Key.StoreKey, new BucketReply(plan, 0, 0, 0, new double[plan.Limits.Count])), 0, -owed);
                break;
            case LocalCharge local:
                _local.Settle(local.Decision, actual);
                break;
        }
    }

    /// <summary>None: the store is not asked for numbers that it does not keep.</summary>
    /// <param name="resource">The resource.</param>
    /// <returns>Null.</returns>
    public override RateLimiterStatistics? GetStatistics(TResource resource) => null;

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _isDisposed = true;
        _local.Dispose();
        base.Dispose(disposing);
    }

    /// <summary>Whether this node can say by itself. A key that had no refusal and no lease is not looked for longer than one look into a table takes.</summary>
    private bool TryDecide(in Request request, out RateLimitDecision decision)
    {
        decision = default;
        if (request.State is not { } state || request.Permits > request.Plan.Most)
        {
            return false;
        }

        lock (state.Gate)
        {
            state.Use(request.Plan);
            if (!state.TryDecide(request.Permits, Now, out decision))
            {
                return false;
            }
        }

        decision = Counted(request.Settings, "node", decision);
        return true;
    }

    /// <summary>One call for one request.</summary>
    private async ValueTask<RateLimitDecision> AskAsync(Request request, CancellationToken cancellationToken)
    {
        int permits = request.Permits <= request.Plan.Most ? request.Permits : 0;
        RedisKey key = request.State?.StoreKey ?? KeyStates.StoreKey(request.Settings.KeyPrefix, request.Settings.Name, request.Key);
        int refunds = request.Settings.States.Refunds(request.Key);
        Task<BucketReply?> call = CallAsync(key, request, permits, permits);
        BucketReply? reply;
        try
        {
            reply = await call.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            _ = ReturnAsync(call, request.Key, key, permits);
            throw;
        }

        if (reply is null)
        {
            return Fallback(request);
        }

        if (reply.Granted < permits || request.State is not null)
        {
            KeyState state = request.State ?? request.Settings.States.GetOrAdd(request.Key, request.Settings.KeyPrefix, request.Settings.Name, Now);
            lock (state.Gate)
            {
                state.Use(request.Plan);
                state.Learn(reply, Now);
                ForgetIfRefunded(request, state, refunds);
            }
        }

        return Counted(request.Settings, "store", DecisionOf(request, reply, 0, new StoreCharge(request.Key, key, reply)));
    }

    /// <summary>One call for all requests of the key that come meanwhile.</summary>
    private async ValueTask<RateLimitDecision> AskForLeaseAsync(Request request, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task<BucketReply?>? call = JoinOrStart(request, request.Permits, out bool isMine, out RateLimitDecision decision);
            if (call is null)
            {
                return Counted(request.Settings, "node", decision);
            }

            BucketReply? reply;
            try
            {
                reply = await call.WaitAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (isMine)
            {
                _ = ReturnAsync(call, request.Key, request.State!.StoreKey, request.Permits);
                throw;
            }

            if (reply is null)
            {
                return Fallback(request);
            }

            if (isMine)
            {
                return Counted(request.Settings, "store", LeasedDecision(request, reply));
            }

            // Another's call may have brought enough for this request, too.
        }
    }

    /// <summary>The call for a lease that is under way for the key, or a new one; null: the decision could be made.</summary>
    /// <param name="request">The request.</param>
    /// <param name="reserved">What the request itself takes of the answer.</param>
    /// <param name="isMine">Whether it is a new one.</param>
    /// <param name="decision">The decision.</param>
    private Task<BucketReply?>? JoinOrStart(in Request request, int reserved, out bool isMine, out RateLimitDecision decision)
    {
        KeyState state = request.State!;
        lock (state.Gate)
        {
            state.Use(request.Plan);
            isMine = false;
            if (state.TryDecide(request.Permits, Now, out decision))
            {
                return null;
            }

            if (state.Call is { } running)
            {
                return running;
            }

            isMine = true;
            Task<BucketReply?> call = LeaseAsync(request, reserved, state.Held(Now));
            state.Call = call.IsCompleted ? null : call;
            return call;
        }
    }

    /// <summary>What the answer means for the request that asked; refused, it comes back when the pace allows.</summary>
    private RateLimitDecision LeasedDecision(in Request request, BucketReply reply)
    {
        KeyState state = request.State!;
        lock (state.Gate)
        {
            if (!ReferenceEquals(state.Plan, request.Plan))
            {
                return DecisionOf(request, reply, 0, null);
            }

            return reply.Granted == 0 && state.TryDecide(request.Permits, Now, out RateLimitDecision decision)
                ? decision
                : DecisionOf(request, reply, state.Held(Now), state.Lease);
        }
    }

    private async Task<BucketReply?> LeaseAsync(Request request, int reserved, long held)
    {
        (KeyState state, BucketPlan plan, int nodes) = (request.State!, request.Plan, request.Nodes);
        int refunds = request.Settings.States.Refunds(request.Key);
        int most = reserved + (int)Math.Max(0, request.LeaseSize - held);
        BucketReply? reply = await CallAsync(state.StoreKey, request, Math.Max(reserved, 1), most).ConfigureAwait(false);
        lock (state.Gate)
        {
            state.Call = null;
            if (reply is not null && ReferenceEquals(state.Plan, plan))
            {
                long now = Now;
                state.Learn(reply, now);
                double share = (double)request.LeaseSize * nodes;
                state.AskAt(reply.Granted < most ? now + plan.TimeFor(share, reply.Debts).Ticks : now);
                ForgetIfRefunded(request, state, refunds);
                if (reply.Granted > 0)
                {
                    TimeSpan life = plan.LongestTimeFor(share * LivesOfAShare);
                    state.Extend(reply.Granted - reserved, request.LeaseSize, now, life > TimeSpan.FromSeconds(1) ? life : TimeSpan.FromSeconds(1));
                }
            }
        }

        return reply;
    }

    /// <summary>A refund that ended while the call was under way may have come after it in the store: then what the answer refuses is not known any more.</summary>
    private static void ForgetIfRefunded(in Request request, KeyState state, int refunds)
    {
        if (request.Settings.States.Refunds(request.Key) != refunds)
        {
            state.ForgetRefusals();
        }
    }

    /// <summary>Calls the store, within its time; null: it did not do it, or is skipped.</summary>
    private async Task<BucketReply?> CallAsync(RedisKey key, Request request, int least, int most)
    {
        // A look that is answered says nothing of writing, so it neither probes nor ends an outage.
        bool writes = most > 0;
        if (writes ? !_health.MayAsk(Now) : _health.IsSkipped)
        {
            return null;
        }

        string name = request.Settings.Name;
        Task<BucketReply>? answer = null;
        try
        {
            ThrowIfNotConnected(key);
            answer = _script.AcquireAsync(_database, key, request.Plan, least, most);
            BucketReply reply = await answer.WaitAsync(request.Settings.StoreTimeout, _timeProvider).ConfigureAwait(false);
            if (writes)
            {
                _health.Answered();
            }

            Telemetry.Called(name, "answered");
            return reply;
        }
        catch (RedisServerException exception) when (exception.Message.StartsWith(BucketScript.ForeignValue, StringComparison.Ordinal))
        {
            _health.Answered();
            Telemetry.Called(name, "foreign");
            if (MayTell() && _logger is not null)
            {
                Log.ForeignValue(_logger, name, key.ToString());
            }
        }
        catch (Exception exception)
        {
            _ = answer?.ContinueWith(static late => late.Exception, CancellationToken.None, TaskContinuationOptions.OnlyOnFaulted, TaskScheduler.Default);
            _health.Failed(Now, exception);
            Telemetry.Called(name, "failed");
        }

        return null;
    }

    /// <summary>What holds while the store does not answer, after the lease: the bucket of this node, then open or closed.</summary>
    private RateLimitDecision Fallback(in Request request)
    {
        if (request.Permits > request.Plan.Most)
        {
            return Counted(request.Settings, "outage", new RateLimitDecision(false, request.Permits, 0, Timeout.InfiniteTimeSpan, TimeSpan.Zero));
        }

        if (request.Settings.LocalFallback)
        {
            RateLimitDecision local = _local.Decide(request.Resource, request.Permits, request.Settings, NodesOf(request.Settings));
            if (local.RetryAfter != Timeout.InfiniteTimeSpan)
            {
                return Counted(request.Settings, "local_bucket", new RateLimitDecision(local.IsAdmitted, request.Permits, local.Remaining, local.RetryAfter, local.ResetAfter, new LocalCharge(local)));
            }
        }

        TimeSpan probe = _health.ProbedAfter(Now);
        return Counted(request.Settings, "outage", request.Settings.FailOpen
            ? new RateLimitDecision(true, request.Permits, 0, TimeSpan.Zero, TimeSpan.Zero)
            : new RateLimitDecision(false, request.Permits, 0, probe > request.Settings.StoreTimeout ? probe : request.Settings.StoreTimeout, TimeSpan.Zero));
    }

    /// <summary>The caller has gone: what was granted goes back.</summary>
    private async Task ReturnAsync(Task<BucketReply?> call, RateLimitKey key, RedisKey storeKey, int permits)
    {
        if (await call.ConfigureAwait(false) is { Granted: > 0 } reply)
        {
            await SettleAsync(new StoreCharge(key, storeKey, reply), reply.Granted, permits).ConfigureAwait(false);
        }
    }

    private async Task SettleAsync(StoreCharge charge, int permits, long back)
    {
        try
        {
            ThrowIfNotConnected(charge.StoreKey);
            await _script.SettleAsync(_database, charge.StoreKey, charge.Reply, permits, back).ConfigureAwait(false);
            if (back > 0)
            {
                _settings.States.Refunded(charge.Key);
            }
        }
        catch (Exception exception)
        {
            if (MayTell() && _logger is not null)
            {
                Log.NotSettled(_logger, exception, Name, back > 0 ? "a refund" : "a debt");
            }
        }
    }

    private static RateLimitDecision DecisionOf(in Request request, BucketReply reply, long held, object? source)
    {
        BucketPlan plan = request.Plan;
        long remaining = held + plan.Remaining(reply.Debts, 0);
        var reset = TimeSpan.FromMicroseconds(plan.DrainedAfter(reply.Debts, 0));
        return request.Permits > plan.Most ? new RateLimitDecision(false, request.Permits, remaining, Timeout.InfiniteTimeSpan, reset)
            : reply.Granted > 0 || (request.Permits == 0 && remaining > 0) ? new RateLimitDecision(true, request.Permits, remaining, TimeSpan.Zero, reset, source)
            : new RateLimitDecision(false, request.Permits, remaining, TimeSpan.FromMicroseconds(plan.AdmitsAfter(reply.Debts, 0, Math.Max(1, request.Permits))), reset);
    }

    private static RateLimitDecision Counted(RedisTokenBucketLimiterSettings<TResource> settings, string source, in RateLimitDecision decision)
    {
        RateLimitDecision shown = settings.IsShadow && !decision.IsAdmitted
            ? new RateLimitDecision(true, decision.Permits, decision.Remaining, decision.RetryAfter, decision.ResetAfter, isShadowRefusal: true)
            : decision;
        Telemetry.Decided(settings.Name, shown, source);
        return shown;
    }

    private Request RequestOf(TResource resource, int permits)
    {
        RedisTokenBucketLimiterSettings<TResource> settings = _settings;
        RateLimitKey key = KeyStates.Shortened(KeyOf(resource));
        BucketPlan plan = PlanOf(resource);
        int nodes = settings.LeaseSize > 0 ? NodesOf(settings) : 1;
        int leaseSize = Math.Min(settings.LeaseSize, plan.Most / nodes);
        KeyState? state = leaseSize > 0 ? settings.States.GetOrAdd(key, settings.KeyPrefix, settings.Name, Now) : settings.States.Find(key);
        return new Request(settings, resource, key, plan, permits, leaseSize, nodes, state);
    }

    private RateLimitKey KeyOf(TResource resource)
    {
        try
        {
            return _settings.KeySelector(resource);
        }
        catch (Exception exception)
        {
            Tell(exception, nameof(RedisTokenBucketLimiterOptions<>.KeySelector), "the request counts as one without a key");
            return default;
        }
    }

    private BucketPlan PlanOf(TResource resource)
    {
        RedisTokenBucketLimiterSettings<TResource> settings = _settings;
        if (settings.LimitsFor is not { } limitsFor)
        {
            return settings.Plan;
        }

        try
        {
            if (limitsFor(resource) is not { } limits)
            {
                return settings.Plan;
            }

            if (limits.Count <= settings.Plan.Limits.Count && PlanFor(limits) is { } plan)
            {
                return plan;
            }

            Tell(null, nameof(RedisTokenBucketLimiterOptions<>.LimitsFor), "Limits hold for the key");
        }
        catch (Exception exception)
        {
            Tell(exception, nameof(RedisTokenBucketLimiterOptions<>.LimitsFor), "Limits hold for the key");
        }

        return settings.Plan;
    }

    /// <summary>One plan for each list of limits, so that plans are compared by reference; null: no limits that can be used, or one list too many.</summary>
    private BucketPlan? PlanFor(IReadOnlyList<RateLimit> limits)
    {
        if (_plans.TryGetValue(limits, out BucketPlan? plan) || _plans.Count > MostPlans)
        {
            return plan;
        }

        RateLimit[] copy = [.. limits];
        return _plans.GetOrAdd(copy, RedisTokenBucketLimiterOptions<TResource>.LimitProblems(null, copy).Any() ? null : new BucketPlan(copy));
    }

    private int NodesOf(RedisTokenBucketLimiterSettings<TResource> settings)
    {
        if (settings.Nodes is null)
        {
            return 1;
        }

        try
        {
            if (settings.Nodes() is > 0 and int nodes)
            {
                return _nodes = nodes;
            }

            Tell(null, nameof(RedisTokenBucketLimiterOptions<>.Nodes), "the number before holds");
        }
        catch (Exception exception)
        {
            Tell(exception, nameof(RedisTokenBucketLimiterOptions<>.Nodes), "the number before holds");
        }

        return _nodes;
    }

    /// <summary>Else the driver would keep the command until it is connected again, and all of them would arrive at once.</summary>
    private void ThrowIfNotConnected(RedisKey key)
    {
        if (!_database.IsConnected(key))
        {
            throw new RedisConnectionException(ConnectionFailureType.UnableToConnect, "There is no connection to the store.");
        }
    }

    private void Tell(Exception? exception, string option, string instead)
    {
        if (MayTell() && _logger is not null)
        {
            Log.DelegateFailed(_logger, exception, Name, option, instead);
        }
    }

    /// <summary>Once a minute: what fails for one request fails for many.</summary>
    private bool MayTell()
    {
        long now = Now, until = Volatile.Read(ref _quietUntil);
        return now >= until && Interlocked.CompareExchange(ref _quietUntil, now + TimeSpan.TicksPerMinute, until) == until;
    }

    private RedisTokenBucketLimiterSettings<TResource> SettingsOf(RedisTokenBucketLimiterOptions<TResource> options, KeyStates states)
    {
        options.ThrowIfInvalid();
        states.Capacity = options.Capacity;
        RateLimit[] limits = [.. options.Limits];
        return new RedisTokenBucketLimiterSettings<TResource>(
            options.Name,
            PlanFor(limits) ?? new BucketPlan(limits),
            options.KeySelector!,
            options.LimitsFor,
            options.KeyPrefix,
            options.LeaseSize,
            options.Nodes,
            options.StoreTimeout,
            options.LocalFallback,
            options.FailOpen,
            options.Capacity,
            options.Shadow,
            states);
    }

    /// <summary>A request with what holds for it.</summary>
    private readonly record struct Request(
        RedisTokenBucketLimiterSettings<TResource> Settings, TResource Resource, RateLimitKey Key, BucketPlan Plan, int Permits, int LeaseSize, int Nodes, KeyState? State);

    /// <summary>What is needed to settle a charge in the store.</summary>
    private sealed record StoreCharge(RateLimitKey Key, RedisKey StoreKey, BucketReply Reply);

    /// <summary>What is needed to settle a charge in the bucket of this node.</summary>
    private sealed record LocalCharge(RateLimitDecision Decision);
}
