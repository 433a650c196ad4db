using System.Collections.Concurrent;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>The signers of endpoints, kept by what is stored of their secrets: a secret is unprotected once, not for each attempt.</summary>
internal sealed class Signers(TimeProvider timeProvider)
{
    private const int Most = 10_000;

    private readonly ConcurrentDictionary<string, WebhookSigner> _signers = new(StringComparer.Ordinal);

    public void Clear() => _signers.Clear();

    public WebhookSigner Of(string secrets, WebhookDeliveryOptions options)
    {
        if (_signers.TryGetValue(secrets, out WebhookSigner? signer))
        {
            return signer;
        }

        var signs = new WebhookSignerOptions { Name = options.Name };
        foreach (WebhookKey key in Secrets.Keys(secrets, timeProvider.GetUtcNow(), options))
        {
            signs.Keys.Add(key);
        }

        if (_signers.Count >= Most)
        {
            _signers.Clear();
        }

        return _signers.GetOrAdd(secrets, new WebhookSigner(signs, timeProvider));
    }
}
