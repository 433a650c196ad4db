using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RetryPolicies;

/// <summary>
/// Calls again what failed, within a number of attempts, a budget and the caller's deadline, and waits in between: exponentially longer,
/// capped, then jittered. What comes out in the end is the last real exception or result, as it is; why it was not retried is told by
/// metric and log. The attempt is given up without a wait when the wait cannot fit what is left of the deadline. Thread-safe and without
/// state of its own but the budget. Cost of a call whose first attempt succeeds: a few nanoseconds and no allocation. Sources:
/// "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015); for the budget, see <see cref="RetryBudget"/>.
/// </summary>
public sealed partial class RetryPolicy
{
    private readonly TimeProvider _timeProvider;
    private readonly ILogger? _logger;
    private readonly string _name;
    private readonly Lazy<RetryBudget> _ownBudget;
    private RetrySettings _settings;

    /// <summary>Makes a policy.</summary>
    /// <param name="options">The options; copied.</param>
    /// <param name="timeProvider">The source of time for the waits; default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Default none.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the message names all that are.</exception>
    public RetryPolicy(RetryPolicyOptions options, TimeProvider? timeProvider = null, ILogger<RetryPolicy>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        _timeProvider = timeProvider ?? TimeProvider.System;
        _logger = logger;
        _name = options.Name ?? "";
        _ownBudget = new Lazy<RetryBudget>(() => new RetryBudget(new RetryBudgetOptions { Name = _name }, _timeProvider));
        _settings = Check(options);
    }

    /// <summary>The source of jitter.</summary>
    internal Random Random { get; init; } = Random.Shared;

    /// <summary>
    /// Executes an action, again where it fails: a <see cref="ValueTask{TResult}"/> action with a state, so that the delegate can be static and cost
    /// nothing.
    /// </summary>
    /// <typeparam name="TState">The type of the state.</typeparam>
    /// <typeparam name="TResult">The type of the result.</typeparam>
    /// <param name="action">The action; called up to <see cref="RetryPolicyOptions.MaxAttempts"/> times, with the state and the token.</param>
    /// <param name="state">Handed to the action.</param>
    /// <param name="cancellationToken">
    /// Once it is cancelled, nothing is retried, and a wait ends at once. When it is cancelled beforehand, the action is not called.
    /// </param>
    /// <returns>
    /// The first result that needs no retry; else the last outcome: the result, or the exception with its stack. A wait that the token ended yields
    /// an <see cref="OperationCanceledException"/> with that token and the last exception inside.
    /// </returns>
    /// <exception cref="ArgumentNullException">The action is null. The only thing thrown directly; all else comes out of the returned task.</exception>
    [OverloadResolutionPriority(1)]
    public ValueTask<TResult> ExecuteAsync<TState, TResult>(
        Func<TState, CancellationToken, ValueTask<TResult>> action, TState state, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return Execute<PlainAction<TState, TResult>, TResult>(new PlainAction<TState, TResult>(action, state), cancellationToken);
    }

    /// <summary>Gives the policy new options, for the calls that begin from now on. Its own budget, and its name, stay.</summary>
    /// <param name="options">The options; copied.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the old options stay in force.</exception>
    public void Update(RetryPolicyOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        Volatile.Write(ref _settings, Check(options));
    }

    private RetrySettings Check(RetryPolicyOptions options)
    {
        options.ThrowIfInvalid();
        return new RetrySettings(options, options.Budget ?? _ownBudget.Value, _name, _logger);
    }

    /// <summary>The first attempt. When it succeeds at once, that is all: no state machine, nothing allocated.</summary>
    private ValueTask<TResult> Execute<TAction, TResult>(TAction action, CancellationToken cancellationToken)
        where TAction : struct, IAction<TResult>
    {
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<TResult>(cancellationToken);
        }

        RetrySettings settings = Volatile.Read(ref _settings);
        settings.Budget.OnRequest();
        ValueTask<TResult> pending;
        try
        {
            pending = action.Call(new RetryAttempt(1, RetryOutcome.None, TimeSpan.Zero), cancellationToken);
        }
        catch (Exception exception)
        {
            pending = ValueTask.FromException<TResult>(exception);
        }

        if (!pending.IsCompletedSuccessfully)
        {
            return ContinueAsync(action, settings, pending, isJudged: false, null, cancellationToken);
        }

        TResult result = pending.Result;
        bool? retryable = settings.JudgesResults ? settings.IsRetryable(result) : false;
        if (retryable != false)
        {
            return ContinueAsync(action, settings, new ValueTask<TResult>(result), isJudged: true, retryable, cancellationToken);
        }

        settings.Budget.OnSuccess();
        Telemetry.Succeeded(_name, 1);
        return new ValueTask<TResult>(result);
    }

    /// <param name="action">What is called.</param>
    /// <param name="settings">The options that this call began with.</param>
    /// <param name="pending">The first attempt.</param>
    /// <param name="isJudged">Whether its result has been judged: predicates are asked once.</param>
    /// <param name="retryable">The judgement.</param>
    /// <param name="cancellationToken">Cancels the waits.</param>
    private async ValueTask<TResult> ContinueAsync<TAction, TResult>(
        TAction action, RetrySettings settings, ValueTask<TResult> pending, bool isJudged, bool? retryable, CancellationToken cancellationToken)
        where TAction : struct, IAction<TResult>
    {
        long previousTicks = 0;
        for (int number = 1; ; number++)
        {
            TResult result = default!;
            Exception? exception = null;
            try
            {
                result = await pending.ConfigureAwait(false);
            }
            catch (Exception thrown)
            {
                exception = thrown;
            }

            if (!isJudged)
            {
                retryable = exception is null ? settings.IsRetryable(result) : cancellationToken.IsCancellationRequested || settings.IsRetryable(exception);
            }

            isJudged = false;
            Verdict verdict = Judge(action, settings, exception, result, retryable, number, ref previousTicks, out TimeSpan delay, cancellationToken);
            if (verdict == Verdict.Retry)
            {
                if (delay > TimeSpan.Zero)
                {
                    await Task.Delay(delay, _timeProvider, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                }

                if (cancellationToken.IsCancellationRequested)
                {
                    Report(settings, Verdict.Cancelled, number);
                    throw new OperationCanceledException("Cancelled while waiting for the next attempt.", exception, cancellationToken);
                }

                Telemetry.Retried(_name);
                RetryOutcome outcome = exception is null ? RetryOutcome.Result : RetryOutcome.Exception;
                try
                {
                    pending = action.Call(new RetryAttempt(number + 1, outcome, delay), cancellationToken);
                }
                catch (Exception thrown)
                {
                    pending = ValueTask.FromException<TResult>(thrown);
                }

                continue;
            }

            Report(settings, verdict, number);
            if (exception is not null)
            {
                ExceptionDispatchInfo.Throw(exception);
            }

            return result;
        }
    }

    /// <summary>
    /// What becomes of the call, and the wait before a retry. The order matters: the tokens of the budget learn of every failure, whatever else
    /// ends the call (as in gRPC), but a retry is taken from the ratio only as the last step, when it will be made.
    /// </summary>
    private Verdict Judge<TAction, TResult>(
        TAction action, RetrySettings settings, Exception? exception, TResult result, bool? retryable, int number, ref long previousTicks,
        out TimeSpan delay, CancellationToken cancellationToken)
        where TAction : struct, IAction<TResult>
    {
        delay = default;
        if (exception is null && retryable == false)
        {
            settings.Budget.OnSuccess();
            return Verdict.Succeeded;
        }

        if (cancellationToken.IsCancellationRequested)
        {
            return Verdict.Cancelled;
        }

        if (retryable != true)
        {
            return Verdict.NotRetryable;
        }

        bool affordable = settings.Budget.OnFailure();
        if (number >= action.MaxAttempts(settings))
        {
            return Verdict.OutOfAttempts;
        }

        TimeSpan? hint = exception is null ? settings.Hint(result) : settings.Hint(exception);
        if (hint == Timeout.InfiniteTimeSpan)
        {
            return Verdict.ToldNever;
        }

        delay = hint is { } told ? settings.Limit(told) : settings.Backoff(number, ref previousTicks, Random);
        if (!action.Fits(settings, delay))
        {
            return Verdict.DeadlineTooNear;
        }

        return affordable && settings.Budget.TryTake() ? Verdict.Retry : Verdict.BudgetExhausted;
    }

    private void Report(RetrySettings settings, Verdict verdict, int attempts)
    {
        if (verdict == Verdict.Succeeded)
        {
            Telemetry.Succeeded(_name, attempts);
            return;
        }

        Telemetry.Stopped(_name, attempts, verdict);
        if (_logger is null)
        {
            return;
        }

        try
        {
            Log.GaveUp(_logger, _name, attempts, verdict);
            if (verdict == Verdict.BudgetExhausted && settings.Budget.IsNewlyExhausted())
            {
                Log.BudgetExhausted(_logger, settings.Budget.Name, _name);
            }
        }
        catch (Exception)
        {
            // The logger itself is broken; the outcome of the call matters more.
        }
    }

    /// <summary>The kinds of action, as structs: the compiler makes one loop for each, without a delegate in between.</summary>
    private interface IAction<TResult>
    {
        public ValueTask<TResult> Call(RetryAttempt attempt, CancellationToken cancellationToken);

        public int MaxAttempts(RetrySettings settings);

        public bool Fits(RetrySettings settings, TimeSpan delay);
    }

    private readonly struct PlainAction<TState, TResult>(Func<TState, CancellationToken, ValueTask<TResult>> action, TState state) : IAction<TResult>
    {
        public ValueTask<TResult> Call(RetryAttempt attempt, CancellationToken cancellationToken) => action(state, cancellationToken);

        public int MaxAttempts(RetrySettings settings) => settings.MaxAttempts;

        public bool Fits(RetrySettings settings, TimeSpan delay) => settings.Fits(delay);
    }

    private readonly struct AttemptAction<TState, TResult>(
        Func<TState, RetryAttempt, CancellationToken, ValueTask<TResult>> action, TState state) : IAction<TResult>
    {
        public ValueTask<TResult> Call(RetryAttempt attempt, CancellationToken cancellationToken) => action(state, attempt, cancellationToken);

        public int MaxAttempts(RetrySettings settings) => settings.MaxAttempts;

        public bool Fits(RetrySettings settings, TimeSpan delay) => settings.Fits(delay);
    }

    private readonly struct LimitedAction<TState, TResult>(
        Func<TState, RetryAttempt, CancellationToken, ValueTask<TResult>> action, TState state, Func<TState, TimeSpan?> timeLeft, int? maxAttempts) : IAction<TResult>
    {
        public ValueTask<TResult> Call(RetryAttempt attempt, CancellationToken cancellationToken) => action(state, attempt, cancellationToken);

        public int MaxAttempts(RetrySettings settings) => maxAttempts ?? settings.MaxAttempts;

        public bool Fits(RetrySettings settings, TimeSpan delay) => settings.Fits(delay, timeLeft, state);
    }
}
