using System.Diagnostics;
using System.Runtime.ExceptionServices;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.RetryPolicies;
using Backend.Toolkit.TimeoutBudgets;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Http;

/// <summary>
/// One call over HTTP, from the outside in: total budget, retry with a budget of its own, a circuit per authority, attempt timeout. It retries only
/// what is safe to send twice, never sends a request twice at the same time, tells the server how much time is left, and never waits past it.
/// Each attempt runs in one timeout scope, at the earlier of the attempt's deadline and the call's. The headers are in WIRE.md. Thread-safe; its
/// state is the retry budget and the circuits, which survive <see cref="Update"/>. Cost of a call that succeeds at once: one object and one scope.
/// </summary>
public sealed class OutboundPolicy : IDisposable
{
    private readonly TimeProvider _timeProvider;
    private readonly ILogger? _logger;
    private readonly CircuitBreakerGroup<HttpAuthority> _circuits;
    private readonly RetryBudget _ownRetryBudget;
    private readonly RetryPolicy _retry;
    private readonly TimeoutBudgetPolicy _attempt;
    private readonly string _attemptName;
    private volatile OutboundPlan _plan;

    /// <summary>Makes a policy.</summary>
    /// <param name="options">The options; copied.</param>
    /// <param name="timeProvider">The clock; default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Told of each call that failed, in one line, and of circuits that open and close; default none.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the message names all that are.</exception>
    public OutboundPolicy(OutboundPolicyOptions options, TimeProvider? timeProvider = null, ILogger<OutboundPolicy>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        Name = options.Name ?? "";
        _timeProvider = timeProvider ?? TimeProvider.System;
        _logger = logger;
        _attemptName = OutboundPolicyOptions.AttemptName(Name);
        _circuits = new CircuitBreakerGroup<HttpAuthority>(
            options.CircuitBreaker ?? new CircuitBreakerGroupOptions { Name = Name }, _timeProvider, logger is null ? null : new CircuitLogger(logger));
        _ownRetryBudget = new RetryBudget(options.RetryBudget ?? new RetryBudgetOptions { Name = Name }, _timeProvider);
        _plan = new OutboundPlan(options, _ownRetryBudget, _logger);
        _retry = new RetryPolicy(_plan.RetryOptions, _timeProvider);
        _attempt = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Name = _attemptName }, _timeProvider);
    }

    /// <summary>The name given by the options; the label on metrics, in logs and in exceptions.</summary>
    public string Name { get; }

    internal TimeProvider TimeProvider => _timeProvider;

    /// <summary>The circuits, one per authority.</summary>
    public CircuitBreakerGroup<HttpAuthority> CircuitBreakers => _circuits;

    /// <summary>The retry budget that is in force.</summary>
    public RetryBudget RetryBudget => _plan.RetryOptions.Budget!;

    /// <summary>Puts new options in force for calls that start from now on. Circuits and retry budget keep their state; the name stays.</summary>
    /// <param name="options">The options; copied.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the old options stay in force.</exception>
    public void Update(OutboundPolicyOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        if (options.RetryBudget is not null)
        {
            _ownRetryBudget.Update(options.RetryBudget);
        }

        if (options.CircuitBreaker is not null)
        {
            _circuits.Update(options.CircuitBreaker);
        }

        var plan = new OutboundPlan(options, _ownRetryBudget, _logger);
        _retry.Update(plan.RetryOptions);
        _plan = plan;
    }

    /// <summary>Drops the circuits. Calls that run go on to their end; a new one fails with <see cref="ObjectDisposedException"/>.</summary>
    public void Dispose() => _circuits.Dispose();

    internal Task<HttpResponseMessage> SendAsync(OutboundPolicyHandler handler, HttpRequestMessage request, CancellationToken cancellationToken)
    {
        if (cancellationToken.IsCancellationRequested)
        {
            return Task.FromCanceled<HttpResponseMessage>(cancellationToken);
        }

        OutboundCall call;
        bool replayable;
        try
        {
            call = new OutboundCall(_plan, handler, request, cancellationToken);
            replayable = !call.MayRetry || RequestContent.IsReplayable(request.Content);
        }
        catch (Exception exception)
        {
            return Task.FromException<HttpResponseMessage>(exception);
        }

        if (!replayable)
        {
            return FinishAsync(call, BufferAndSendAsync(call));
        }

        ValueTask<OutboundCall> pending = SendAsync(call);
        if (!pending.IsCompletedSuccessfully || call.Error is not null)
        {
            return FinishAsync(call, pending);
        }

        Finish(call);
        return call.Sent is { IsCompletedSuccessfully: true } sent && sent.Result == call.Response ? sent : Task.FromResult(call.Response!);
    }

    private ValueTask<OutboundCall> SendAsync(OutboundCall call) => call.Plan.Retries
        ? _retry.ExecuteAsync(
            static (call, attempt, token) => call.Policy.AttemptAsync(call, attempt, token), call,
            static call => call.TimeLeft(), call.MayRetry ? call.MaxAttempts : 1, call.CallerToken)
        : AttemptOnceAsync(call);

    private ValueTask<OutboundCall> AttemptOnceAsync(OutboundCall call)
    {
        try
        {
            return AttemptAsync(call, default, call.CallerToken);
        }
        catch (Exception exception)
        {
            return ValueTask.FromException<OutboundCall>(exception);
        }
    }

    private async ValueTask<OutboundCall> BufferAndSendAsync(OutboundCall call)
    {
        HttpContent content = call.Request.Content!;
        if (!RequestContent.MayBeSmall(content, call.Plan.RequestBufferLimit))
        {
            call.SendOnce();
            return await SendAsync(call).ConfigureAwait(false);
        }

        BufferedContent buffered;
        using (var budget = TimeoutBudget.StartDetached(call.Total, Name, _timeProvider, call.CallerToken))
        {
            try
            {
                buffered = await BufferedContent.StartAsync(content, call.Plan.RequestBufferLimit, budget.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException exception) when (call.CallerToken.IsCancellationRequested)
            {
                throw new OperationCanceledException(exception.Message, exception, call.CallerToken);
            }
            catch (Exception exception) when (call.IsSpent && !call.CallerToken.IsCancellationRequested)
            {
                throw Spent(call, exception);
            }
        }

        call.Buffered(buffered);
        try
        {
            return await SendAsync(call).ConfigureAwait(false);
        }
        finally
        {
            if (!buffered.IsWhole)
            {
                buffered.Abandon();
            }
        }
    }

    private ValueTask<OutboundCall> AttemptAsync(OutboundCall call, RetryAttempt attempt, CancellationToken cancellationToken) => Telemetry.IsTracing
        ? TracedAsync(call, attempt, cancellationToken)
        : AttemptAsync(call, attempt, null, cancellationToken);

    /// <summary>In a span of its own. An async method, so that the span is the current one in here only.</summary>
    private async ValueTask<OutboundCall> TracedAsync(OutboundCall call, RetryAttempt attempt, CancellationToken cancellationToken)
    {
        Activity? activity = Telemetry.StartAttempt(Name, call, attempt.Delay);
        Exception? thrown = null;
        try
        {
            return await AttemptAsync(call, attempt, activity, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            thrown = exception;
            throw;
        }
        finally
        {
            if (activity is not null)
            {
                Telemetry.EndAttempt(activity, call, thrown);
            }
        }
    }

    /// <summary>One attempt: inside the circuit, and inside a scope of its own. If none can be made, the outcome of the one before stands.</summary>
    private ValueTask<OutboundCall> AttemptAsync(OutboundCall call, RetryAttempt attempt, Activity? activity, CancellationToken cancellationToken)
    {
        if (!call.TryBegin())
        {
            Telemetry.Refused(activity, "no-time");
            return call.Stays() ? new ValueTask<OutboundCall>(call) : ValueTask.FromException<OutboundCall>(Spent(call, null));
        }

        CircuitPermit permit = default;
        if (call.Plan.BreaksCircuits && call.Authority is { } authority)
        {
            CircuitBreaker circuit = _circuits.For(authority);
            bool isAdmitted = circuit.TryEnter(out permit);
            if (activity is not null)
            {
                Telemetry.TellCircuit(activity, circuit.State);
            }

            if (!isAdmitted)
            {
                Telemetry.Refused(activity, "circuit-open");
                return call.Stays() ? new ValueTask<OutboundCall>(call) : ValueTask.FromException<OutboundCall>(Rejection(authority, circuit.Capture()));
            }
        }

        if (call.Attempts > 0 && activity is null)
        {
            Activity.Current?.AddEvent(new ActivityEvent("retry", default, new ActivityTagsCollection
            {
                ["attempt"] = attempt.Number,
                ["delay_ms"] = attempt.Delay.TotalMilliseconds,
            }));
        }

        ValueTask<HttpResponseMessage> pending = _attempt.ExecuteAsync(
            static (call, token) => new ValueTask<HttpResponseMessage>(call.Send(token)), call, call.Limit, cancellationToken);
        if (!pending.IsCompletedSuccessfully)
        {
            return AwaitAsync(call, pending, permit);
        }

        Judge(call, pending.Result, permit);
        return new ValueTask<OutboundCall>(call);
    }

    private async ValueTask<OutboundCall> AwaitAsync(OutboundCall call, ValueTask<HttpResponseMessage> pending, CircuitPermit permit)
    {
        HttpResponseMessage response;
        try
        {
            response = await pending.ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            Judge(call, exception, permit);
            return call;
        }

        Judge(call, response, permit);
        return call;
    }

    private void Judge(OutboundCall call, HttpResponseMessage response, CircuitPermit permit)
    {
        if (response is null)
        {
            permit.Release();
            throw new InvalidOperationException("A handler behind the policy returned null in place of a response.");
        }

        OutboundPlan plan = call.Plan;

        // A server whose budget was the attempt's says that when the attempt is over; it is an attempt that timed out, not a call that is lost.
        call.IsToldNever = Wire.SaysNoRetry(response) && !call.IsAttemptOver;
        bool? isFailure = plan.IsFailure(response);
        switch (isFailure)
        {
            // Told that there is no time left, the server is right to refuse.
            case true when !(call.IsToldNever && call.ToldZero):
                permit.Failure();
                break;
            case false:
                permit.Success();
                break;
            default:
                permit.Release();
                break;
        }

        if (!plan.IsRetryable(response))
        {
            call.Answered(response, isSuccess: isFailure == false);
            return;
        }

        TimeSpan? hint = call.IsToldNever ? Timeout.InfiniteTimeSpan : Wire.RetryAfter(response, _timeProvider);
        call.Failed(response, hint > plan.MaxDelayHint ? Timeout.InfiniteTimeSpan : hint);
    }

    /// <summary>
    /// What an exception says about the other side, if it says anything: not when the caller, or the end of a budget, is behind it. What may not be
    /// retried is thrown.
    /// </summary>
    private void Judge(OutboundCall call, Exception exception, CircuitPermit permit)
    {
        if (call.CallerToken.IsCancellationRequested || OutboundCall.IsAmbientOver)
        {
            permit.Release();
            ExceptionDispatchInfo.Throw(exception);
        }

        bool timedOut = exception is TimeoutBudgetExceededException exceeded && exceeded.Name == _attemptName;
        if (timedOut && call.IsLimitedByTotal)
        {
            permit.Release();
            throw Spent(call, exception);
        }

        bool ofContent = call.Request.Content is not null && OutboundPlan.IsOfContent(exception);
        if (!ofContent && call.Plan.IsFailure(exception, timedOut) == true)
        {
            permit.Failure();
        }
        else
        {
            permit.Release();
        }

        if (ofContent || !call.Plan.IsRetryable(exception, timedOut))
        {
            ExceptionDispatchInfo.Throw(exception);
        }

        call.Failed(ExceptionDispatchInfo.Capture(exception));
    }

    private async Task<HttpResponseMessage> FinishAsync(OutboundCall call, ValueTask<OutboundCall> pending)
    {
        try
        {
            await pending.ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            call.Response?.Dispose();
            Outcome outcome = exception switch
            {
                _ when call.CallerToken.IsCancellationRequested || OutboundCall.IsAmbientOver => Outcome.Cancelled,

                // Of another policy's circuit, further down, when it was sent.
                CircuitOpenException when call.Attempts == 0 => Outcome.CircuitOpen,
                TimeoutBudgetExceededException exceeded when exceeded.Name == Name => Outcome.TimedOut,
                _ => Outcome.Failed,
            };
            if (outcome == Outcome.CircuitOpen || (outcome == Outcome.TimedOut && call.Attempts > 1))
            {
                call.MarkExhausted();
            }

            Report(call, outcome, exception);
            throw;
        }

        Finish(call);
        call.Error?.Throw();
        return call.Response!;
    }

    private void Finish(OutboundCall call)
    {
        Outcome outcome = !call.IsWorthRetry ? Outcome.Answered : call.MayRetry && call.MaxAttempts > 1 ? Outcome.GaveUp : Outcome.NotRetried;
        if (outcome == Outcome.GaveUp || call.IsToldNever)
        {
            call.MarkExhausted();
        }
        else if (call.IsSuccess)
        {
            call.ClearExhausted();
        }

        call.CoverBody(Name);

        if (outcome != Outcome.Answered || Telemetry.IsListening)
        {
            Report(call, outcome, call.Error?.SourceException);
        }
    }

    private CircuitOpenException Rejection(HttpAuthority authority, CircuitSnapshot circuit) =>
        new($"{Name}[{authority}]", circuit.State, circuit.RemainingBreak);

    private TimeoutBudgetExceededException Spent(OutboundCall call, Exception? inner) => new(Name, call.Total, call.Elapsed, inner);

    private void Report(OutboundCall call, Outcome outcome, Exception? exception)
    {
        Telemetry.Called(Name, outcome);
        if (_logger is null || outcome is Outcome.Answered or Outcome.Cancelled)
        {
            return;
        }

        try
        {
            Log.Failed(
                _logger, Name, call.Method.Method, call.Authority?.ToString() ?? "?", Telemetry.Text(outcome), call.Attempts, call.Elapsed,
                exception?.Message ?? $"status {(int?)call.Response?.StatusCode}", call.WhyNotRetried);
        }
        catch (Exception)
        {
            // The logger itself is broken; the outcome of the call matters more.
        }
    }

    /// <summary>The group logs under the category of the policy.</summary>
    private sealed class CircuitLogger(ILogger logger) : ILogger<CircuitBreaker>
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => logger.BeginScope(state);

        public bool IsEnabled(LogLevel logLevel) => logger.IsEnabled(logLevel);

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            logger.Log(logLevel, eventId, state, exception, formatter);
    }
}
