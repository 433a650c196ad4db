using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.Idempotency;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Worker;

/// <summary>
/// The message loop. Each message that is taken is completed, given back or buried. What is not its own fault (an open circuit, a stop) does not count against it.
/// </summary>
internal sealed class Consumer(
    MessageQueue queue, Sender sender, [FromKeyedServices("sms")] CircuitBreaker breaker, IOptions<WorkerOptions> options, TimeProvider time, ILogger<Consumer> logger) : BackgroundService
{
    private static readonly TimeSpan EmptyPause = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan TroublePause = TimeSpan.FromSeconds(1);

    private readonly WorkerOptions _options = options.Value;
    private int _completed;
    private int _failed;
    private int _givenBack;
    private int _pauses;

    /// <summary>Messages that were completed, repeats included.</summary>
    public int Completed => _completed;

    /// <summary>Deliveries that failed and counted.</summary>
    public int Failed => _failed;

    /// <summary>Deliveries that ended without counting.</summary>
    public int GivenBack => _givenBack;

    /// <summary>How often a consumer waited for the provider instead of taking the next message.</summary>
    public int Pauses => _pauses;

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var giveUp = new CancellationTokenSource(Timeout.InfiniteTimeSpan, time);
        using CancellationTokenRegistration grace = stoppingToken.Register(() => giveUp.CancelAfter(_options.Grace));
        await Task.WhenAll(Enumerable.Range(0, _options.Consumers).Select(_ => Task.Run(() => ConsumeAsync(stoppingToken, giveUp.Token), CancellationToken.None)));
    }

    private async Task ConsumeAsync(CancellationToken stopping, CancellationToken giveUp)
    {
        while (!stopping.IsCancellationRequested)
        {
            TimeSpan pause;
            try
            {
                pause = await queue.ReceiveAsync(_options.Visibility) is { } delivery ? await HandleAsync(delivery, giveUp) : EmptyPause;
            }
            catch (SqliteException trouble)
            {
                // What was in hand comes again when its time is over.
                Log.QueueDown(logger, trouble);
                pause = TroublePause;
            }

            if (pause > TimeSpan.Zero)
            {
                await Task.Delay(pause, time, stopping).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    /// <returns>How long to wait before the next message.</returns>
    private async Task<TimeSpan> HandleAsync(Delivery delivery, CancellationToken giveUp)
    {
        // The first: whoever took it did not live to say what is wrong with it. The second: what does not count against a message must come to an end, too.
        if (delivery.Count > _options.MaxDeliveries || delivery.Age > _options.Retention)
        {
            await BuryAsync(delivery, delivery.Count > _options.MaxDeliveries ? "No delivery of it came to an end." : $"It is older than {_options.Retention}.");
            return TimeSpan.Zero;
        }

        try
        {
            await sender.SendAsync(delivery, giveUp);
        }
        catch (Exception) when (giveUp.IsCancellationRequested)
        {
            await GiveBackAsync(delivery, TimeSpan.Zero);
            return TimeSpan.Zero;
        }
        catch (SmsRefusedException refused)
        {
            await BuryAsync(delivery, refused.Message);
            return TimeSpan.Zero;
        }
        catch (IdempotencyException exception) when (exception.Error == IdempotencyError.InProgress)
        {
            await GiveBackAsync(delivery, exception.RetryAfter ?? TroublePause);
            return TimeSpan.Zero;
        }
        catch (Exception exception) when (NotNow(exception) is { } wait)
        {
            Interlocked.Increment(ref _pauses);
            await GiveBackAsync(delivery, TimeSpan.Zero);
            return wait;
        }
        catch (Exception failure)
        {
            await FailAsync(delivery, failure.Message);
            return TimeSpan.Zero;
        }

        await queue.CompleteAsync(delivery);
        Interlocked.Increment(ref _completed);
        return TimeSpan.Zero;
    }

    private async Task FailAsync(Delivery delivery, string reason)
    {
        // While the provider is down, to fail says nothing about the message. It goes to the end of the line, so that the next probe is another one.
        if (breaker.State != CircuitState.Closed)
        {
            await GiveBackAsync(delivery, _options.RedeliveryDelay);
            return;
        }

        Interlocked.Increment(ref _failed);
        if (delivery.Count >= _options.MaxDeliveries)
        {
            await BuryAsync(delivery, reason);
        }
        else
        {
            await queue.GiveBackAsync(delivery, _options.RedeliveryDelay * delivery.Count, counts: true);
        }
    }

    private async Task GiveBackAsync(Delivery delivery, TimeSpan delay)
    {
        Interlocked.Increment(ref _givenBack);
        await queue.GiveBackAsync(delivery, delay, counts: false);
    }

    private async Task BuryAsync(Delivery delivery, string reason)
    {
        Log.Buried(logger, delivery.Id, delivery.Count, reason);
        await queue.BuryAsync(delivery, reason);
    }

    /// <summary>How long to leave the provider, or the store, alone; null when the exception is about the message.</summary>
    private static TimeSpan? NotNow(Exception exception) => exception switch
    {
        // Zero while a probe is under way; infinite when the circuit was isolated by hand.
        CircuitOpenException open => open.RetryAfter > EmptyPause ? open.RetryAfter : EmptyPause,
        NoPermitException busy => busy.RetryAfter > EmptyPause ? busy.RetryAfter : EmptyPause,
        IdempotencyStoreException => TroublePause,
        _ => null,
    };
}
