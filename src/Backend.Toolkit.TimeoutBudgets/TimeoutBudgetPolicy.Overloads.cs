using System.Runtime.CompilerServices;

namespace Backend.Toolkit.TimeoutBudgets;

// The shapes that people call; each ends in the one that does the work, in TimeoutBudgetPolicy.cs.
public sealed partial class TimeoutBudgetPolicy
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

    /// <inheritdoc cref="ExecuteAsync{TState,TResult}(Func{TState,CancellationToken,ValueTask{TResult}},TState,TimeSpan,CancellationToken)"/>
    public ValueTask<TResult> ExecuteAsync<TState, TResult>(
        Func<TState, CancellationToken, Task<TResult>> action, TState state, TimeSpan total, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return ExecuteAsync(static (call, token) => new ValueTask<TResult>(call.action(call.state, token)), (action, state), total, cancellationToken);
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
