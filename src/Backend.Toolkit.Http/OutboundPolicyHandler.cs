namespace Backend.Toolkit.Http;

/// <summary>
/// An <see cref="OutboundPolicy"/> as a link in the chain of an <see cref="HttpClient"/>. With <c>AddHttpClient</c> use <c>AddOutboundPolicy</c>; without:
/// <c>new HttpClient(new OutboundPolicyHandler(policy) { InnerHandler = new SocketsHttpHandler() }) { Timeout = Timeout.InfiniteTimeSpan }</c>.
/// Handlers may be many and short-lived; what is learnt about the other side is kept in the policy.
/// </summary>
/// <param name="policy">The policy; not disposed with the handler.</param>
public sealed class OutboundPolicyHandler(OutboundPolicy policy) : DelegatingHandler
{
    internal OutboundPolicy Policy { get; } = policy ?? throw new ArgumentNullException(nameof(policy));

    /// <summary>Sends the request under the policy.</summary>
    /// <param name="request">The request.</param>
    /// <param name="cancellationToken">Ends the call: no further attempt, and the running one is cancelled.</param>
    /// <returns>The last response.</returns>
    protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return Policy.SendAsync(this, request, cancellationToken);
    }

    /// <summary>Not supported: a policy waits, and never blocks a thread for it.</summary>
    /// <param name="request">The request.</param>
    /// <param name="cancellationToken">A token.</param>
    /// <returns>Nothing.</returns>
    /// <exception cref="NotSupportedException">Always.</exception>
    protected override HttpResponseMessage Send(HttpRequestMessage request, CancellationToken cancellationToken) =>
        throw new NotSupportedException("A client with an outbound policy sends asynchronously only: call SendAsync, GetAsync and so on.");

    internal Task<HttpResponseMessage> SendOnceAsync(HttpRequestMessage request, CancellationToken cancellationToken) => base.SendAsync(request, cancellationToken);
}
