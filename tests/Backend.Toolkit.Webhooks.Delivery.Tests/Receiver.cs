namespace Backend.Toolkit.Webhooks.Delivery.Tests;

/// <summary>Answers attempts without a network.</summary>
internal sealed class Receiver(Func<HttpRequestMessage, CancellationToken, Task<HttpResponseMessage>> answer) : HttpMessageHandler
{
    public Receiver(Func<HttpRequestMessage, int> status)
        : this((request, _) => Task.FromResult(new HttpResponseMessage((System.Net.HttpStatusCode)status(request))))
    {
    }

    public static string Id(HttpRequestMessage request) => request.Headers.GetValues("webhook-id").Single();

    protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) => answer(request, cancellationToken);
}
