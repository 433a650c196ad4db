using System.Net;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.RetryPolicies;
using Backend.Toolkit.TimeoutBudgets;

namespace Shop;

/// <summary>How an order is charged: the four policies, one inside the other, around the call.</summary>
internal sealed class Checkout(
    PaymentsClient payments,
    Traffic traffic,
    [FromKeyedServices("checkout")] TimeoutBudgetPolicy budget,
    [FromKeyedServices("payments")] RetryPolicy retry,
    [FromKeyedServices("payments")] CircuitBreaker breaker,
    [FromKeyedServices("payments-attempt")] TimeoutBudgetPolicy attemptTimeout)
{
    /// <summary>Each lambda's token hides the one around it, so that none can be passed on by mistake.</summary>
    /// <returns>False: declined.</returns>
    public ValueTask<bool> ChargeAsync(Order order, CancellationToken cancellationToken) =>
        budget.ExecuteAsync(token =>
            retry.ExecuteAsync((attempt, token) =>
                breaker.ExecuteAsync(token =>
                    attemptTimeout.ExecuteAsync(token =>
                    {
                        traffic.CountCall(isRetry: attempt.Number > 1);
                        return payments.ChargeAsync(order, token);
                    }, token), token), token), cancellationToken);

    /// <summary>The same call without any of them, for comparison.</summary>
    /// <returns>False: declined.</returns>
    public Task<bool> ChargePlainlyAsync(Order order, CancellationToken cancellationToken)
    {
        traffic.CountCall(isRetry: false);
        return payments.ChargeAsync(order, cancellationToken);
    }
}

/// <summary>The call to payments.</summary>
internal sealed class PaymentsClient(HttpClient http)
{
    /// <summary>
    /// What says something about payments rather than about the order, and may pass: no connection, a 5xx, no answer in time. Not a 4xx, which would be
    /// the same next time; nor an open circuit, whose caller is told when to come back.
    /// </summary>
    public static bool IsFault(Exception exception) =>
        exception is TimeoutBudgetExceededException or HttpRequestException { StatusCode: null or >= HttpStatusCode.InternalServerError };

    /// <returns>False: declined.</returns>
    public async Task<bool> ChargeAsync(Order order, CancellationToken cancellationToken)
    {
        // Every attempt carries the order's id: payments charges it once, however often it is asked.
        using HttpResponseMessage response = await http.PostAsJsonAsync("charges", new Charge(order.Id, order.Cents), cancellationToken);
        return response.StatusCode != HttpStatusCode.PaymentRequired && response.EnsureSuccessStatusCode().IsSuccessStatusCode;
    }
}
