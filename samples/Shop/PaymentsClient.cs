using System.Net;

namespace Shop;

/// <summary>The call to payments. What stands before it, budget, retries, circuit and attempt timeout, is the handler of its client.</summary>
internal sealed class PaymentsClient(HttpClient http)
{
    /// <returns>False: declined.</returns>
    public async Task<bool> ChargeAsync(Order order, string key, CancellationToken cancellationToken)
    {
        // The key says that it is the same charge however often it is asked for: that is why it may be retried. Payments charges a key once.
        using var request = new HttpRequestMessage(HttpMethod.Post, "charges") { Content = JsonContent.Create(new Charge(order.Id, order.Cents)) };
        request.Headers.Add("Idempotency-Key", $"\"{key}\"");
        using HttpResponseMessage response = await http.SendAsync(request, cancellationToken);
        return response.StatusCode != HttpStatusCode.PaymentRequired && response.EnsureSuccessStatusCode().IsSuccessStatusCode;
    }
}
