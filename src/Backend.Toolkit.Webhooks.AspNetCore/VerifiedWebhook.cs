namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>A request whose signature is valid. Lives as long as the request.</summary>
public sealed class VerifiedWebhook
{
    private readonly ReceivedBody _body;

    internal VerifiedWebhook(string verifier, in WebhookMessage message, ReceivedBody body)
    {
        Verifier = verifier;
        Message = message;
        _body = body;
    }

    /// <summary>The name of the verifier under one of whose keys it was signed.</summary>
    public string Verifier { get; }

    /// <summary>What is known of the message; its replay keys, too.</summary>
    public WebhookMessage Message { get; }

    /// <summary>The id as the header has it; null: there is none. Signed in Standard Webhooks only.</summary>
    public string? Id => Message.Id;

    /// <summary>When the sender says that it signed; null: the scheme signs no time.</summary>
    public DateTimeOffset? Timestamp => Message.Timestamp;

    /// <summary>How many bytes the raw body has.</summary>
    public long BodyLength => _body.Length;

    /// <summary>The raw body from its start: exactly the bytes that were signed. Every call gives a stream of its own, which is independent of <c>Request.Body</c>.</summary>
    /// <returns>The stream; it can seek, and need not be disposed of.</returns>
    /// <exception cref="ObjectDisposedException">The request has ended.</exception>
    public Stream OpenBody() => _body.OpenRead();

    /// <summary>The raw body: exactly the bytes that were signed.</summary>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <returns>A new array.</returns>
    /// <exception cref="ObjectDisposedException">The request has ended.</exception>
    public async ValueTask<byte[]> ReadBodyAsync(CancellationToken cancellationToken = default)
    {
        byte[] bytes = new byte[_body.Length];
        Stream stream = _body.OpenRead();
        await using (stream.ConfigureAwait(false))
        {
            await stream.ReadExactlyAsync(bytes, cancellationToken).ConfigureAwait(false);
        }

        return bytes;
    }
}
