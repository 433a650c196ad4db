using System.Text;

namespace Backend.Toolkit.Webhooks;

/// <summary>What is known of a message that was verified. The default value, which a refusal gives, knows nothing and has no key.</summary>
public readonly struct WebhookMessage
{
    private const byte SignedId = 1;
    private const byte Signature = 2;
    private const byte Chosen = 3;

    private readonly WebhookKeyRing? _ring;
    private readonly long _seconds;
    private readonly WebhookReplayKey _mac;

    internal WebhookMessage(WebhookKeyRing ring, string? id, long seconds, ReadOnlySpan<byte> mac)
    {
        _ring = ring;
        Id = id;
        _seconds = seconds;
        _mac = new WebhookReplayKey(mac);
    }

    /// <summary>Whether there is a message: it was valid.</summary>
    public bool IsVerified => _ring is not null;

    /// <summary>The id as the header has it; null: there is none.</summary>
    public string? Id { get; }

    /// <summary>Whether the sender signed the id. One that is not signed can be any that a replayer likes.</summary>
    public bool IsIdSigned => _ring?.Layout.SignsId == true;

    /// <summary>When the sender says that it signed; null: the scheme signs no time.</summary>
    public DateTimeOffset? Timestamp => _ring?.Layout.HasTimestamp == true ? DateTimeOffset.FromUnixTimeSeconds(_seconds) : null;

    /// <summary>How long the same request would be accepted again: twice the tolerance and a second; null: for ever, since the scheme signs no time.</summary>
    public TimeSpan? ReplayWindow => _ring?.Layout.HasTimestamp == true ? TimeSpan.FromSeconds((2 * _ring.Tolerance) + 1) : null;

    /// <summary>
    /// The key of what was signed: of the id where that is signed, so that the sender's next attempt has the same; otherwise of the verified signature, as the first key in force makes it, so that an
    /// unsigned id, another spelling or another signature of the same list does not make another message of it.
    /// </summary>
    /// <exception cref="InvalidOperationException">No message was verified.</exception>
    public WebhookReplayKey ReplayKey
    {
        get
        {
            WebhookKeyRing ring = Verified();
            Span<byte> bytes = stackalloc byte[256];
            if (ring.Layout.SignsId)
            {
                return WebhookReplayKey.Of(ring.NameDigest, SignedId, bytes[..Encoding.ASCII.GetBytes(Id, bytes)]);
            }

            _mac.CopyTo(bytes);
            return WebhookReplayKey.Of(ring.NameDigest, Signature, bytes[..WebhookReplayKey.Size]);
        }
    }

    /// <summary>The key of an id that you read in the signed body, such as that of a Stripe event, which every attempt of the sender has, though each is signed anew.</summary>
    /// <param name="id">The id, 1 to 64 characters.</param>
    /// <returns>The key.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The id is shorter or longer.</exception>
    /// <exception cref="InvalidOperationException">No message was verified.</exception>
    public WebhookReplayKey ReplayKeyOf(string id)
    {
        ArgumentNullException.ThrowIfNull(id);
        ArgumentOutOfRangeException.ThrowIfZero(id.Length, nameof(id));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(id.Length, 64, nameof(id));
        Span<byte> bytes = stackalloc byte[256];
        return WebhookReplayKey.Of(Verified().NameDigest, Chosen, bytes[..Encoding.UTF8.GetBytes(id, bytes)]);
    }

    private WebhookKeyRing Verified() => _ring ?? throw new InvalidOperationException("No message was verified, so nothing of it was signed.");
}
