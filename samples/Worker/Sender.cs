using System.Text.Json;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.RateLimiting;
using Backend.Toolkit.RetryPolicies;
using Backend.Toolkit.TimeoutBudgets;
using Microsoft.Extensions.DependencyInjection;

namespace Worker;

/// <summary>There is no permit for the provider within the time that the message has.</summary>
internal sealed class NoPermitException(TimeSpan retryAfter) : Exception($"No permit for the provider; the next is due in {retryAfter}.")
{
    public TimeSpan RetryAfter => retryAfter;
}

/// <summary>All that stands between a message and the provider: five packages that know nothing of each other, nested as plain lambdas.</summary>
internal sealed class Sender(
    [FromKeyedServices("message")] TimeoutBudgetPolicy budget,
    [FromKeyedServices("reminders")] IdempotentExecutor once,
    [FromKeyedServices("sms")] RetryPolicy retry,
    [FromKeyedServices("sms")] TokenBucketLimiter limiter,
    [FromKeyedServices("sms")] CircuitBreaker breaker,
    [FromKeyedServices("attempt")] TimeoutBudgetPolicy attempt,
    SmsProvider provider)
{
    /// <summary>Sends what the message asks for, unless that was done before.</summary>
    /// <returns>The provider's receipt: of this time, or of the time when it was sent.</returns>
    /// <exception cref="SmsRefusedException">Nobody can send it.</exception>
    public ValueTask<string> SendAsync(Delivery delivery, CancellationToken cancellationToken)
    {
        Reminder reminder = Read(delivery.Body);
        return budget.ExecuteAsync(token =>
            once.ExecuteAsync(delivery.Id, delivery.Body, async (operation, token) =>
            {
                try
                {
                    string key = operation.DownstreamKey("sms");
                    return await retry.ExecuteAsync(async token =>
                    {
                        await PermitAsync(token);
                        return await breaker.ExecuteAsync(token =>
                            attempt.ExecuteAsync(token =>
                                provider.SendAsync(key, reminder, token), token), token);
                    }, token);
                }
                catch
                {
                    // Whether it was sent may not be known. Whoever is next asks under the same key, so the provider knows.
                    await operation.AbandonAsync(CancellationToken.None);
                    throw;
                }
            }, WorkerJson.Default.String, token), cancellationToken);
    }

    /// <summary>Before anything is asked of anybody: what is wrong with a message must not look like what is wrong with the provider.</summary>
    private static Reminder Read(byte[] body)
    {
        try
        {
            Reminder reminder = JsonSerializer.Deserialize(body, WorkerJson.Default.Reminder) ?? throw new SmsRefusedException("The message is null.");
            return string.IsNullOrWhiteSpace(reminder.Number) ? throw new SmsRefusedException("The message has no number.")
                : reminder.Text is null ? throw new SmsRefusedException("The message has no text.")
                : reminder;
        }
        catch (JsonException exception)
        {
            throw new SmsRefusedException($"The message cannot be read: {exception.Message}");
        }
    }

    /// <summary>Waits in line for the provider. Every attempt does, so that retries, too, stay within its limit.</summary>
    private async ValueTask PermitAsync(CancellationToken cancellationToken)
    {
        RateLimitDecision decision = await limiter.AcquireDecisionAsync(1, cancellationToken);
        if (!decision.IsAdmitted)
        {
            throw new NoPermitException(decision.RetryAfter);
        }
    }
}
