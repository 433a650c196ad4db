using System.Data.Common;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace Backend.Toolkit.Idempotency;

/// <content>What is executed: with and without a result, for value tasks and for tasks, with leases and in a transaction.</content>
public sealed partial class IdempotentExecutor
{
    /// <summary>Lease mode: runs the action under the key, or answers with the result of the run that was.</summary>
    /// <typeparam name="T">The result.</typeparam>
    /// <param name="key">The key, unique for this executor and <see cref="IdempotencyOptions.Subject"/>; see <see cref="KeyProblem"/>.</param>
    /// <param name="fingerprint">What the key is bound to, such as the body of the message; hashed. A repeat with another one is a mismatch. May be empty.</param>
    /// <param name="action">What is run. Its token is the caller's, and is cancelled when the lease is lost.</param>
    /// <param name="type">How the result is written and read.</param>
    /// <param name="cancellationToken">Ends the claim, the wait and the action; never the recording of an outcome.</param>
    /// <returns>The result, of this run or a former one.</returns>
    /// <exception cref="ArgumentException">The key is malformed.</exception>
    /// <exception cref="IdempotencyException">It is in progress, was another request, is too old, was not kept, or lost its lease.</exception>
    /// <exception cref="IdempotencyStoreException">The store is down, and is required.</exception>
    [OverloadResolutionPriority(1)]
    public ValueTask<T> ExecuteAsync<T>(
        string key, ReadOnlyMemory<byte> fingerprint, Func<IdempotentOperation, CancellationToken, ValueTask<T>> action, JsonTypeInfo<T> type, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        ArgumentNullException.ThrowIfNull(type);
        ThrowIfMalformed(key);
        return RunAsync(key, fingerprint, action, type, cancellationToken);
    }

    /// <inheritdoc cref="ExecuteAsync{T}(string, ReadOnlyMemory{byte}, Func{IdempotentOperation, CancellationToken, ValueTask{T}}, JsonTypeInfo{T}, CancellationToken)"/>
    public ValueTask<T> ExecuteAsync<T>(
        string key, ReadOnlyMemory<byte> fingerprint, Func<IdempotentOperation, CancellationToken, Task<T>> action, JsonTypeInfo<T> type, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        ArgumentNullException.ThrowIfNull(type);
        ThrowIfMalformed(key);
        return RunAsync(key, fingerprint, (operation, token) => new ValueTask<T>(action(operation, token)), type, cancellationToken);
    }

    /// <summary>Lease mode, for an action without a result.</summary>
    /// <inheritdoc cref="ExecuteAsync{T}(string, ReadOnlyMemory{byte}, Func{IdempotentOperation, CancellationToken, ValueTask{T}}, JsonTypeInfo{T}, CancellationToken)"/>
    /// <returns>When it has run, now or formerly.</returns>
    [OverloadResolutionPriority(1)]
    public ValueTask ExecuteAsync(string key, ReadOnlyMemory<byte> fingerprint, Func<IdempotentOperation, CancellationToken, ValueTask> action, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        ThrowIfMalformed(key);
        return WithoutResultAsync(RunAsync(
            key,
            fingerprint,
            async (operation, token) =>
            {
                await action(operation, token).ConfigureAwait(false);
                return true;
            },
            DoneJson.Default.Boolean,
            cancellationToken));
    }

    /// <inheritdoc cref="ExecuteAsync(string, ReadOnlyMemory{byte}, Func{IdempotentOperation, CancellationToken, ValueTask}, CancellationToken)"/>
    public ValueTask ExecuteAsync(string key, ReadOnlyMemory<byte> fingerprint, Func<IdempotentOperation, CancellationToken, Task> action, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return ExecuteAsync(key, fingerprint, (operation, token) => new ValueTask(action(operation, token)), cancellationToken);
    }

    /// <summary>
    /// Transaction mode: claims the key inside a transaction of the connection, runs the action in it, and commits its effects and its result together; or answers with the result of the
    /// run that was. An exception rolls all of it back.
    /// </summary>
    /// <typeparam name="T">The result.</typeparam>
    /// <param name="key">The key, unique for this executor and <see cref="IdempotencyOptions.Subject"/>; see <see cref="KeyProblem"/>.</param>
    /// <param name="fingerprint">What the key is bound to; hashed. A repeat with another one is a mismatch.</param>
    /// <param name="connection">A connection to the store's database, without a transaction; opened when it is closed, and left open.</param>
    /// <param name="action">What is run. It neither commits nor disposes of the transaction.</param>
    /// <param name="type">How the result is written and read.</param>
    /// <param name="cancellationToken">Ends the claim, the wait and the action; never the commit.</param>
    /// <returns>The result, of this run or a former one.</returns>
    /// <exception cref="ArgumentException">The key is malformed.</exception>
    /// <exception cref="IdempotencyException">It is in progress, was another request, is too old, or was not kept.</exception>
    /// <exception cref="IdempotencyStoreException">The database is down.</exception>
    /// <exception cref="InvalidOperationException">The store has no transactions.</exception>
    [OverloadResolutionPriority(1)]
    public ValueTask<T> ExecuteInTransactionAsync<T>(
        string key,
        ReadOnlyMemory<byte> fingerprint,
        DbConnection connection,
        Func<DbTransaction, IdempotentOperation, CancellationToken, ValueTask<T>> action,
        JsonTypeInfo<T> type,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(connection);
        ArgumentNullException.ThrowIfNull(action);
        ArgumentNullException.ThrowIfNull(type);
        ThrowIfMalformed(key);
        return RunInTransactionAsync(key, fingerprint, connection, action, type, cancellationToken);
    }

    /// <inheritdoc cref="ExecuteInTransactionAsync{T}(string, ReadOnlyMemory{byte}, DbConnection, Func{DbTransaction, IdempotentOperation, CancellationToken, ValueTask{T}}, JsonTypeInfo{T}, CancellationToken)"/>
    public ValueTask<T> ExecuteInTransactionAsync<T>(
        string key,
        ReadOnlyMemory<byte> fingerprint,
        DbConnection connection,
        Func<DbTransaction, IdempotentOperation, CancellationToken, Task<T>> action,
        JsonTypeInfo<T> type,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(action);
        return ExecuteInTransactionAsync(
            key, fingerprint, connection, (transaction, operation, token) => new ValueTask<T>(action(transaction, operation, token)), type, cancellationToken);
    }

    private static void ThrowIfMalformed(string key)
    {
        if (KeyProblem(key) is { } problem)
        {
            throw new ArgumentException(problem, nameof(key));
        }
    }

    private static async ValueTask WithoutResultAsync(ValueTask<bool> run)
    {
        try
        {
            await run.ConfigureAwait(false);
        }
        catch (IdempotencyException exception) when (exception.Error == IdempotencyError.OutcomeNotKept)
        {
            // That it ran is all there is to know.
        }
    }

    private async ValueTask<T> RunAsync<T>(
        string key, ReadOnlyMemory<byte> fingerprint, Func<IdempotentOperation, CancellationToken, ValueTask<T>> action, JsonTypeInfo<T> type, CancellationToken cancellationToken)
    {
        IdempotentOperation operation = await BeginAsync(Scope(), key, fingerprint, cancellationToken).ConfigureAwait(false);
        await using (operation.ConfigureAwait(false))
        {
            return operation.Status switch
            {
                IdempotencyStatus.Completed => Replay(operation.Outcome!, type),
                IdempotencyStatus.Started or IdempotencyStatus.Unprotected => await FinishAsync(operation, action, type).ConfigureAwait(false),
                _ => throw operation.NotStarted(),
            };
        }
    }

    private async ValueTask<T> RunInTransactionAsync<T>(
        string key,
        ReadOnlyMemory<byte> fingerprint,
        DbConnection connection,
        Func<DbTransaction, IdempotentOperation, CancellationToken, ValueTask<T>> action,
        JsonTypeInfo<T> type,
        CancellationToken cancellationToken)
    {
        IdempotentOperation operation = Prepare(Scope(), key, fingerprint, cancellationToken);
        await using (operation.ConfigureAwait(false))
        {
            DbTransaction transaction;
            try
            {
                transaction = await operation.BeginTransactionAsync(connection, cancellationToken).ConfigureAwait(false);
            }
            catch (IdempotencyException) when (operation.Status == IdempotencyStatus.Completed)
            {
                return Replay(operation.Outcome!, type);
            }

            return await FinishAsync(operation, (started, token) => action(transaction, started, token), type).ConfigureAwait(false);
        }
    }

    private IdempotencyScope Scope() => new(Name, _settings.Subject?.Invoke() ?? "");

    private static async ValueTask<T> FinishAsync<T>(IdempotentOperation operation, Func<IdempotentOperation, CancellationToken, ValueTask<T>> action, JsonTypeInfo<T> type)
    {
        CancellationToken caller = operation.CallerToken;
        CancellationToken token = operation.CancellationToken;
        T result;
        try
        {
            result = await action(operation, token).ConfigureAwait(false);
        }
        catch (OperationCanceledException exception) when (operation.IsLeaseLost && !caller.IsCancellationRequested)
        {
            throw IdempotentOperation.LeaseLost(exception);
        }
        catch (OperationCanceledException exception) when (caller.IsCancellationRequested && exception.CancellationToken == token && token != caller)
        {
            // Who waits knows its own token only.
            throw new OperationCanceledException(exception.Message, exception, caller);
        }

        if (operation.IsAbandoned)
        {
            return result;
        }

        byte[] content;
        try
        {
            content = JsonSerializer.SerializeToUtf8Bytes(result, type);
        }
        catch (Exception) when (!operation.HasTransaction)
        {
            // The effect has been made, and must not be made again for want of words.
            await operation.CompleteAsync(IdempotencyOutcome.Tombstone(0), CancellationToken.None).ConfigureAwait(false);
            throw;
        }

        await operation.CompleteAsync(new IdempotencyOutcome(0, content), CancellationToken.None).ConfigureAwait(false);
        return result;
    }

    private static T Replay<T>(IdempotencyOutcome outcome, JsonTypeInfo<T> type) => outcome.IsTombstone
        ? throw new IdempotencyException(IdempotencyError.OutcomeNotKept, "A request with this idempotency key was completed before; its outcome could not be kept: it was too large, or could not be written as JSON.")
        : IdempotentOperation.Read(outcome.Content, type);
}
