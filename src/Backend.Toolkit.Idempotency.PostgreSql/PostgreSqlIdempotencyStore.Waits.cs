using static Backend.Toolkit.Idempotency.PostgreSql.Parameters;

namespace Backend.Toolkit.Idempotency.PostgreSql;

public sealed partial class PostgreSqlIdempotencyStore
{
    /// <summary>How often who listens looks all the same: a pooler may swallow notifications, a network may lose the connection without a word.</summary>
    private static readonly TimeSpan LookAgain = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan FirstPoll = TimeSpan.FromMilliseconds(20);

    private static readonly TimeSpan LongestPoll = TimeSpan.FromMilliseconds(500);

    /// <inheritdoc/>
    /// <exception cref="IdempotencyStoreException">The store is down.</exception>
    public async ValueTask WaitAsync(IdempotencyDigest key, long fence, TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (timeout <= TimeSpan.Zero)
        {
            return;
        }

        using var timer = new CancellationTokenSource(timeout < LongestTimer ? timeout : LongestTimer, _time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(timer.Token, cancellationToken, _closing.Token);
        try
        {
            await (_options.Listen ? ListenAsync(key, fence, linked.Token) : PollAsync(key, fence, linked.Token)).ConfigureAwait(false);
        }
        catch (Exception exception) when (timer.IsCancellationRequested && !cancellationToken.IsCancellationRequested && exception is OperationCanceledException or IdempotencyStoreException { InnerException: OperationCanceledException })
        {
            // The time is over.
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new IdempotencyStoreException($"The idempotency store '{Name}' was disposed of.");
        }
        catch (OperationCanceledException)
        {
            throw new OperationCanceledException(cancellationToken);
        }
        catch (Exception exception) when (IsOutage(exception, null))
        {
            throw Down(exception);
        }
    }

    private static TimeSpan LongestTimer { get; } = TimeSpan.FromDays(24);

    private async Task ListenAsync(IdempotencyDigest key, long fence, CancellationToken cancellationToken)
    {
        using Listener.Waiter waiter = _listener.Add(key);
        while (true)
        {
            // In this order: who listens before it says that it waits misses nothing.
            await _listener.StartAsync().WaitAsync(cancellationToken).ConfigureAwait(false);
            if (!await WriteAsync(_sql.Await, null, cancellationToken, Key(key), Number(fence)).ConfigureAwait(false))
            {
                return;
            }

            await waiter.Woken.WaitAsync(LookAgain, _time, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            cancellationToken.ThrowIfCancellationRequested();
            if (waiter.Woken.IsCompleted)
            {
                return;
            }
        }
    }

    private async Task PollAsync(IdempotencyDigest key, long fence, CancellationToken cancellationToken)
    {
        for (TimeSpan delay = FirstPoll; await WriteAsync(_sql.IsInProgress, null, cancellationToken, Key(key), Number(fence)).ConfigureAwait(false); delay = 2 * delay < LongestPoll ? 2 * delay : LongestPoll)
        {
            await Task.Delay(delay, _time, cancellationToken).ConfigureAwait(false);
        }
    }
}
