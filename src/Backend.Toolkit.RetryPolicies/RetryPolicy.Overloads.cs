using System.Runtime.CompilerServices;

namespace Backend.Toolkit.RetryPolicies;

// The shapes that people call; each ends in the one that does the work, in RetryPolicy.cs.
public sealed partial class RetryPolicy
{
    /// <inheritdoc cref="ExecuteAsync{TState,TResult}(Func{TState,CancellationToken,ValueTask{TResult}},TState,CancellationToken)"/>
    public ValueTask<TResult> ExecuteAsync<TState, TResult>(
        Func<TState, CancellationToken, Task<TResult>> action, TState state, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return ExecuteAsync(static (call, token) => new ValueTask<TResult>(call.action(call.state, token)), (action, state), cancellationToken);
    }

    /// <inheritdoc cref="ExecuteAsync{TState,TResult}(Func{TState,CancellationToken,ValueTask{TResult}},TState,CancellationToken)"/>
    [OverloadResolutionPriority(1)]
    public ValueTask<TResult> ExecuteAsync<TResult>(Func<CancellationToken, ValueTask<TResult>> action, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return ExecuteAsync(static (action, token) => action(token), action, cancellationToken);
    }

    /// <inheritdoc cref="ExecuteAsync{TState,TResult}(Func{TState,CancellationToken,ValueTask{TResult}},TState,CancellationToken)"/>
    public ValueTask<TResult> ExecuteAsync<TResult>(Func<CancellationToken, Task<TResult>> action, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return ExecuteAsync(static (action, token) => new ValueTask<TResult>(action(token)), action, cancellationToken);
    }

    /// <inheritdoc cref="ExecuteAsync{TState,TResult}(Func{TState,CancellationToken,ValueTask{TResult}},TState,CancellationToken)"/>
    [OverloadResolutionPriority(1)]
    public ValueTask ExecuteAsync(Func<CancellationToken, ValueTask> action, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return Discard(ExecuteAsync(static (action, token) => NoResult.From(action(token)), action, cancellationToken));
    }

    /// <inheritdoc cref="ExecuteAsync{TState,TResult}(Func{TState,CancellationToken,ValueTask{TResult}},TState,CancellationToken)"/>
    public ValueTask ExecuteAsync(Func<CancellationToken, Task> action, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return Discard(ExecuteAsync(static (action, token) => NoResult.From(new ValueTask(action(token))), action, cancellationToken));
    }

    /// <summary>Executes an action that sees which attempt it is, again where it fails.</summary>
    /// <typeparam name="TState">The type of the state.</typeparam>
    /// <typeparam name="TResult">The type of the result.</typeparam>
    /// <param name="action">The action; called up to <see cref="RetryPolicyOptions.MaxAttempts"/> times, with the state, the attempt and the token.</param>
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
        Func<TState, RetryAttempt, CancellationToken, ValueTask<TResult>> action, TState state, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return Execute<AttemptAction<TState, TResult>, TResult>(new AttemptAction<TState, TResult>(action, state), cancellationToken);
    }

    /// <summary>Executes an action that brings limits of its own, again where it fails.</summary>
    /// <typeparam name="TState">The type of the state.</typeparam>
    /// <typeparam name="TResult">The type of the result.</typeparam>
    /// <param name="action">As in the overload without limits.</param>
    /// <param name="state">Handed to the action, and to <paramref name="timeLeft"/>.</param>
    /// <param name="timeLeft">Asked in place of <see cref="RetryPolicyOptions.TimeLeft"/>, in the same way.</param>
    /// <param name="maxAttempts">In place of <see cref="RetryPolicyOptions.MaxAttempts"/>: 1 to 100. Null: that of the options.</param>
    /// <param name="cancellationToken">As in the overload without limits.</param>
    /// <returns>As in the overload without limits.</returns>
    /// <exception cref="ArgumentNullException">A delegate is null.</exception>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="maxAttempts"/> is out of range.</exception>
    [OverloadResolutionPriority(1)]
    public ValueTask<TResult> ExecuteAsync<TState, TResult>(
        Func<TState, RetryAttempt, CancellationToken, ValueTask<TResult>> action, TState state, Func<TState, TimeSpan?> timeLeft, int? maxAttempts,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        ArgumentNullException.ThrowIfNull(timeLeft);
        if (maxAttempts is < 1 or > 100)
        {
            throw new ArgumentOutOfRangeException(nameof(maxAttempts), maxAttempts, "The attempts of a call must be between 1 and 100.");
        }

        return Execute<LimitedAction<TState, TResult>, TResult>(new LimitedAction<TState, TResult>(action, state, timeLeft, maxAttempts), cancellationToken);
    }

    /// <inheritdoc cref="ExecuteAsync{TState,TResult}(Func{TState,RetryAttempt,CancellationToken,ValueTask{TResult}},TState,Func{TState,TimeSpan?},int?,CancellationToken)"/>
    public ValueTask<TResult> ExecuteAsync<TState, TResult>(
        Func<TState, RetryAttempt, CancellationToken, Task<TResult>> action, TState state, Func<TState, TimeSpan?> timeLeft, int? maxAttempts,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        ArgumentNullException.ThrowIfNull(timeLeft);
        return ExecuteAsync(
            static (call, attempt, token) => new ValueTask<TResult>(call.action(call.state, attempt, token)), (action, state, timeLeft),
            static call => call.timeLeft(call.state), maxAttempts, cancellationToken);
    }

    /// <inheritdoc cref="ExecuteAsync{TState,TResult}(Func{TState,RetryAttempt,CancellationToken,ValueTask{TResult}},TState,CancellationToken)"/>
    public ValueTask<TResult> ExecuteAsync<TState, TResult>(
        Func<TState, RetryAttempt, CancellationToken, Task<TResult>> action, TState state, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return ExecuteAsync(
            static (call, attempt, token) => new ValueTask<TResult>(call.action(call.state, attempt, token)), (action, state), cancellationToken);
    }

    /// <inheritdoc cref="ExecuteAsync{TState,TResult}(Func{TState,RetryAttempt,CancellationToken,ValueTask{TResult}},TState,CancellationToken)"/>
    [OverloadResolutionPriority(1)]
    public ValueTask<TResult> ExecuteAsync<TResult>(Func<RetryAttempt, CancellationToken, ValueTask<TResult>> action, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return ExecuteAsync(static (action, attempt, token) => action(attempt, token), action, cancellationToken);
    }

    /// <inheritdoc cref="ExecuteAsync{TState,TResult}(Func{TState,RetryAttempt,CancellationToken,ValueTask{TResult}},TState,CancellationToken)"/>
    public ValueTask<TResult> ExecuteAsync<TResult>(Func<RetryAttempt, CancellationToken, Task<TResult>> action, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return ExecuteAsync(static (action, attempt, token) => new ValueTask<TResult>(action(attempt, token)), action, cancellationToken);
    }

    /// <inheritdoc cref="ExecuteAsync{TState,TResult}(Func{TState,RetryAttempt,CancellationToken,ValueTask{TResult}},TState,CancellationToken)"/>
    [OverloadResolutionPriority(1)]
    public ValueTask ExecuteAsync(Func<RetryAttempt, CancellationToken, ValueTask> action, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return Discard(ExecuteAsync(static (action, attempt, token) => NoResult.From(action(attempt, token)), action, cancellationToken));
    }

    /// <inheritdoc cref="ExecuteAsync{TState,TResult}(Func{TState,RetryAttempt,CancellationToken,ValueTask{TResult}},TState,CancellationToken)"/>
    public ValueTask ExecuteAsync(Func<RetryAttempt, CancellationToken, Task> action, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return Discard(ExecuteAsync(static (action, attempt, token) => NoResult.From(new ValueTask(action(attempt, token))), action, cancellationToken));
    }

    private static ValueTask Discard(ValueTask<NoResult> task)
    {
        if (task.IsCompletedSuccessfully)
        {
            _ = task.Result;
            return ValueTask.CompletedTask;
        }

        return new ValueTask(task.AsTask());
    }

    /// <summary>The result of an action that has none.</summary>
    private readonly struct NoResult
    {
        public static ValueTask<NoResult> From(ValueTask task)
        {
            if (task.IsCompletedSuccessfully)
            {
                task.GetAwaiter().GetResult();
                return default;
            }

            return Await(task);
        }

        private static async ValueTask<NoResult> Await(ValueTask task)
        {
            await task.ConfigureAwait(false);
            return default;
        }
    }
}
