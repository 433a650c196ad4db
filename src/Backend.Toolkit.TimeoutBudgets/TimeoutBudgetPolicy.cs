using System.Runtime.CompilerServices;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.TimeoutBudgets;

/// <summary>
/// Runs an action inside a <see cref="TimeoutBudget"/> of its own. When the action ends by cancellation because this policy's deadline has
/// passed, <see cref="TimeoutBudgetExceededException"/> comes out; when an outer budget ended, or the caller cancelled, the cancellation itself does.
/// If both have happened by the time the action ends, the caller's wins. A result that comes late is still returned, unless
/// <see cref="TimeoutBudgetOptions.AbandonOnExpiry"/> is set. Thread-safe. Cost: that of one scope; no timer when an outer budget ends sooner.
/// </summary>
public sealed partial class TimeoutBudgetPolicy
{
    private readonly DeadlineTable _table;
    private readonly ILogger<TimeoutBudgetPolicy>? _logger;
    private volatile Settings _settings;

    /// <summary>Creates a policy.</summary>
    /// <param name="options">The options; a later change to this object has no effect, see <see cref="Update"/>.</param>
    /// <param name="timeProvider">The clock; default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Where a failing <see cref="TimeoutBudgetOptions.TotalFor"/> is told; default nowhere.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options are invalid; the message has all <see cref="TimeoutBudgetOptions.Problems"/>.</exception>
    public TimeoutBudgetPolicy(TimeoutBudgetOptions options, TimeProvider? timeProvider = null, ILogger<TimeoutBudgetPolicy>? logger = null)
    {
        _table = DeadlineTable.For(timeProvider);
        _logger = logger;
        _settings = CreateSettings(options);
    }

    /// <summary>The name of the policy: <see cref="TimeoutBudgetOptions.Name"/>.</summary>
    public string Name => _settings.Name;

    /// <summary>Puts new options in force for executions that start from now on; those that run keep their deadline.</summary>
    /// <param name="options">The options; a later change to this object has no effect.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options are invalid; the old ones stay in force.</exception>
    public void Update(TimeoutBudgetOptions options) => _settings = CreateSettings(options);

    /// <summary>Runs the action inside a budget.</summary>
    /// <typeparam name="TState">The type of <paramref name="state"/>.</typeparam>
    /// <typeparam name="TResult">The type of the result.</typeparam>
    /// <param name="action">Gets the state and a token that fires at the deadline, and with <paramref name="cancellationToken"/>. Not started when that or the budget is already over.</param>
    /// <param name="state">Handed to the action, so that it need not capture.</param>
    /// <param name="cancellationToken">Cancels the execution.</param>
    /// <returns>The result of the action.</returns>
    /// <exception cref="TimeoutBudgetExceededException">The deadline of this policy passed, and the action ended by cancellation (or is abandoned). Through the task.</exception>
    /// <exception cref="OperationCanceledException">The caller or an outer budget cancelled. Through the task.</exception>
    [OverloadResolutionPriority(1)]
    public ValueTask<TResult> ExecuteAsync<TState, TResult>(
        Func<TState, CancellationToken, ValueTask<TResult>> action, TState state, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<TResult>(cancellationToken);
        }

        Settings settings = _settings;
        return Execute(action, state, settings, settings.TotalFor is null ? settings.Length : AskForLength(settings), cancellationToken);
    }

    /// <summary>Runs the action inside a budget whose total the caller knows, in place of <see cref="TimeoutBudgetOptions.Total"/> and <see cref="TimeoutBudgetOptions.TotalFor"/>.</summary>
    /// <typeparam name="TState">The type of <paramref name="state"/>.</typeparam>
    /// <typeparam name="TResult">The type of the result.</typeparam>
    /// <param name="action">As in the other overloads.</param>
    /// <param name="state">Handed to the action.</param>
    /// <param name="total">The total of this execution: zero, greater than zero, or <see cref="Timeout.InfiniteTimeSpan"/>.</param>
    /// <param name="cancellationToken">Cancels the execution.</param>
    /// <returns>The result of the action.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="total"/> is negative and not infinite.</exception>
    /// <exception cref="TimeoutBudgetExceededException">The deadline of this policy passed, and the action ended by cancellation (or is abandoned). Through the task.</exception>
    /// <exception cref="OperationCanceledException">The caller or an outer budget cancelled. Through the task.</exception>
    [OverloadResolutionPriority(1)]
    public ValueTask<TResult> ExecuteAsync<TState, TResult>(
        Func<TState, CancellationToken, ValueTask<TResult>> action, TState state, TimeSpan total, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        if (!TimeoutBudgetOptions.IsValidTotal(total))
        {
            throw new ArgumentOutOfRangeException(nameof(total), total, "A total must be zero, greater than 0, or Timeout.InfiniteTimeSpan.");
        }

        return cancellationToken.IsCancellationRequested
            ? ValueTask.FromCanceled<TResult>(cancellationToken)
            : Execute(action, state, _settings, _table.ToUnits(total), cancellationToken);
    }

    private static ValueTask<TResult> Execute<TState, TResult>(
        Func<TState, CancellationToken, ValueTask<TResult>> action, TState state, Settings settings, long length, CancellationToken cancellationToken)
    {
        ExecutionContext? context = ExecutionContext.Capture();
        var scope = BudgetScope.Open(settings, length, cancellationToken);
        scope.Enter();
        try
        {
            ValueTask<TResult> pending = scope.StartedExpired
                ? ValueTask.FromException<TResult>(new OperationCanceledException(scope.Token))
                : action(state, scope.Token);
            PutBack(context, scope);
            if (pending.IsCompletedSuccessfully)
            {
                scope.End();
                return pending;
            }

            return settings.AbandonOnExpiry && !pending.IsCompleted
                ? AwaitOnTimeAsync(pending.AsTask(), scope, cancellationToken)
                : AwaitAsync(pending, scope, cancellationToken);
        }
        catch (Exception exception)
        {
            PutBack(context, scope);
            return AwaitAsync(ValueTask.FromException<TResult>(exception), scope, cancellationToken);
        }
    }

    /// <summary>
    /// Putting the whole context back is cheaper than setting the async-local back, and keeps in what the action set, as an async method would.
    /// </summary>
    private static void PutBack(ExecutionContext? context, BudgetScope scope)
    {
        if (context is not null)
        {
            ExecutionContext.Restore(context);
        }
        else
        {
            // The caller has suppressed the flow of the context, so there was none to capture.
            scope.Leave();
        }
    }

    private static async ValueTask<TResult> AwaitAsync<TResult>(ValueTask<TResult> pending, BudgetScope scope, CancellationToken cancellationToken)
    {
        try
        {
            return await pending.ConfigureAwait(false);
        }
        catch (Exception exception) when (Translate(exception, scope, cancellationToken) is { } translated)
        {
            throw translated;
        }
        finally
        {
            scope.End();
        }
    }

    private static async ValueTask<TResult> AwaitOnTimeAsync<TResult>(Task<TResult> work, BudgetScope scope, CancellationToken cancellationToken)
    {
        // A result or a failure comes out below; here only the time is waited for.
        BudgetScope alarm = scope.OpenAlarm(cancellationToken);
        await ((Task)work.WaitAsync(alarm.Token)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        alarm.End();
        if (!work.IsCompleted)
        {
            // This may be the thread on which the caller cancels: it must go on, for the action's own callbacks come next.
            await Task.CompletedTask.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        }

        if (!work.IsCompleted)
        {
            _ = work.ContinueWith(
                static late => _ = late.Exception,
                CancellationToken.None, TaskContinuationOptions.OnlyOnFaulted | TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            Telemetry.Abandoned(scope.Name);

            // The alarm may come before: a callback of somebody else may hold up what fires the scope.
            DeadlineTable.Fire(scope);
            work = Task.FromCanceled<TResult>(scope.Token);
        }

        return await AwaitAsync(new ValueTask<TResult>(work), scope, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>What comes out in place of the exception by which the action ended; null: the exception itself.</summary>
    private static Exception? Translate(Exception exception, BudgetScope scope, CancellationToken cancellationToken)
    {
        if (!IsCancellation(exception))
        {
            return null;
        }

        if (scope.HasOwnDeadline && scope.IsExpired && !scope.IsCancelledByCaller(cancellationToken))
        {
            Telemetry.Exceeded(scope.Name);
            return new TimeoutBudgetExceededException(scope.Name, scope.Total, scope.Elapsed, exception);
        }

        return cancellationToken.IsCancellationRequested && scope.Token != cancellationToken
            && exception is OperationCanceledException cancellation && cancellation.CancellationToken == scope.Token
            ? WithToken(cancellation, cancellationToken)
            : null;
    }

    /// <summary>Callers look at the token to tell their own cancellation, so it must be theirs and not the scope's.</summary>
    private static OperationCanceledException WithToken(OperationCanceledException cancellation, CancellationToken token) => cancellation is TaskCanceledException
        ? new TaskCanceledException(cancellation.Message, cancellation, token)
        : new OperationCanceledException(cancellation.Message, cancellation, token);

    /// <summary>Also one that is wrapped, as HTTP clients do; but not one that an inner budget has already reported as its own expiry.</summary>
    private static bool IsCancellation(Exception? exception) => exception switch
    {
        null or TimeoutBudgetExceededException => false,
        OperationCanceledException => true,
        AggregateException { InnerExceptions.Count: > 0 } several => several.InnerExceptions.All(IsCancellation),
        _ => IsCancellation(exception.InnerException),
    };

    private long AskForLength(Settings settings)
    {
        TimeSpan? total = null;
        Exception? failure = null;
        try
        {
            total = settings.TotalFor!();
        }
        catch (Exception exception)
        {
            failure = exception;
        }

        if (failure is null && (total is null || TimeoutBudgetOptions.IsValidTotal(total.Value)))
        {
            return total is null ? settings.Length : _table.ToUnits(total.Value);
        }

        if (_logger is not null && settings.IsFirstBadTotal())
        {
            Log.BadTotal(_logger, failure, settings.Name, total);
        }

        return settings.Length;
    }

    private Settings CreateSettings(TimeoutBudgetOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        return new Settings(options, _table);
    }

    /// <summary>The options as they were when they came into force.</summary>
    private sealed class Settings(TimeoutBudgetOptions options, DeadlineTable table) : BudgetLayer(table, options.Name)
    {
        private int _badTotals;

        public long Length { get; } = table.ToUnits(options.Total);

        public Func<TimeSpan?>? TotalFor { get; } = options.TotalFor;

        public bool AbandonOnExpiry { get; } = options.AbandonOnExpiry;

        public override bool IsEndedByUser => false;

        public override bool NeedsOwnToken => AbandonOnExpiry;

        public bool IsFirstBadTotal() => Interlocked.Exchange(ref _badTotals, 1) == 0;
    }
}
