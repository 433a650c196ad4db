using System.ComponentModel;

namespace Backend.Toolkit.Webhooks;

/// <summary>
/// Where a sender puts its signatures and what it signs: HMAC-SHA256 over a few parts and the raw body. A description without code: all schemes are read and written by the same parser, so a
/// new one is one object with at least a name and a signature header. Its signed parts must not run into each other, which <see cref="WebhookOptions.Problems"/> checks. Immutable. From configuration it is taken by name: <c>Stripe</c>.
/// </summary>
[TypeConverter(typeof(WebhookSchemeConverter))]
public sealed partial class WebhookScheme
{
    /// <summary>What it is called, in configuration and in messages.</summary>
    public string Name { get; init; } = "";

    /// <summary>The header with the signature or the list of them.</summary>
    public string SignatureHeader { get; init; } = "";

    /// <summary>
    /// What is signed: text, <c>{id}</c> and <c>{timestamp}</c> at most once each and followed by text that is no digit, and <c>{body}</c> at the end. Up to 100 characters, ASCII.
    /// Default <c>{body}</c>.
    /// </summary>
    public string SignedContent { get; init; } = "{body}";

    /// <summary>The header with the id of the message; null: there is none. Needed when <c>{id}</c> is signed, otherwise only told. Default null.</summary>
    public string? IdHeader { get; init; }

    /// <summary>The header with the seconds since 1970; null: there is none. Default null.</summary>
    public string? TimestampHeader { get; init; }

    /// <summary>What stands before the timestamp where it is an entry of the signature header, such as <c>t=</c>; null: it is not. Default null.</summary>
    public string? TimestampPrefix { get; init; }

    /// <summary>What stands before each signature, such as <c>v1=</c>; case matters. Default the empty string.</summary>
    public string SignaturePrefix { get; init; } = "";

    /// <summary>What separates several entries of the signature header; null: it holds one signature. Default null.</summary>
    public char? Separator { get; init; }

    /// <summary>How a signature is written. Default <see cref="WebhookEncoding.Hex"/>.</summary>
    public WebhookEncoding Encoding { get; init; } = WebhookEncoding.Hex;

    /// <summary>Null: the secret is its text in UTF-8; otherwise it is base64, with this before it or not. Default null.</summary>
    public string? Base64SecretPrefix { get; init; }

    /// <summary>The fewest bytes of a secret. 1 to 1 024; default 16.</summary>
    public int MinimumSecretBytes { get; init; } = 16;

    /// <summary>What stands before a signature of a public key; only Standard Webhooks has them.</summary>
    internal string? PublicKeySignaturePrefix { get; init; }

    /// <summary>The schemes that are shipped.</summary>
    internal static IReadOnlyList<WebhookScheme> Known => [StandardWebhooks, Stripe, GitHub, Slack, Shopify];

    /// <inheritdoc/>
    public override string ToString() => Name;

    /// <summary>What is wrong with the description, without the subject: null when nothing is.</summary>
    internal string? Problem() =>
        string.IsNullOrWhiteSpace(Name) || string.IsNullOrWhiteSpace(SignatureHeader) ? "with a Name and a SignatureHeader"
        : WebhookLayout.PartsOf(SignedContent) is not { } parts ? "with {id} and {timestamp} in SignedContent at most once each, followed by text that is no digit, and {body} at the end, in at most 100 ASCII characters"
        : parts.Contains(WebhookLayout.Id) && IdHeader is null ? "with an IdHeader, since SignedContent has {id}"
        : parts.Contains(WebhookLayout.Timestamp) != (TimestampHeader is not null || TimestampPrefix is not null) ? "with a TimestampHeader or a TimestampPrefix exactly when SignedContent has {timestamp}: one that is not signed proves nothing"
        : TimestampHeader is not null && TimestampPrefix is not null ? "with a TimestampHeader or a TimestampPrefix, not both"
        : TimestampPrefix is not null && Separator is null ? "with a Separator, since TimestampPrefix is an entry beside the signature"
        : TimestampPrefix is "" || (TimestampPrefix is not null && (SignaturePrefix.StartsWith(TimestampPrefix, StringComparison.Ordinal) || TimestampPrefix.StartsWith(SignaturePrefix, StringComparison.Ordinal)))
            ? "with prefixes none of which begins with the other"
        : SignaturePrefix.Length > 32 || TimestampPrefix is { Length: > 32 } ? "with prefixes of at most 32 characters"
        : (Separator is { } separator && (SignaturePrefix.Contains(separator) || TimestampPrefix?.Contains(separator) == true || separator is '=' or '+' or '/' || char.IsAsciiLetterOrDigit(separator)))
            ? "with a Separator that stands neither in a prefix nor in a signature"
        : !Enum.IsDefined(Encoding) ? "with Encoding Hex or Base64"
        : MinimumSecretBytes is < 1 or > 1024 ? "with MinimumSecretBytes between 1 and 1024"
        : null;
}
