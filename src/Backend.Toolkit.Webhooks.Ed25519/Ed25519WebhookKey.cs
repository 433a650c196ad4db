using System.Buffers;
using System.Security.Cryptography;
using NSec.Cryptography;

namespace Backend.Toolkit.Webhooks.Ed25519;

/// <summary>
/// An Ed25519 key of Standard Webhooks: <c>whpk_</c> and 32 bytes to verify, <c>whsk_</c> and 32 bytes (or 64, with the public key behind) to sign. The curve is libsodium's, through NSec: strict verification,
/// which refuses points of small order and scalars that are not reduced. A private key is in guarded memory, and zeroed when it is collected. Allocates nothing. Thread-safe. Source: RFC 8032.
/// </summary>
public sealed class Ed25519WebhookKey : WebhookPublicKey
{
    private const int KeyBytes = 32;
    private const string PublicPrefix = "whpk_";
    private const string PrivatePrefix = "whsk_";

    private readonly PublicKey _public;
    private readonly Key? _private;

    private Ed25519WebhookKey(PublicKey publicKey, Key? privateKey) => (_public, _private) = (publicKey, privateKey);

    /// <inheritdoc/>
    public override bool CanSign => _private is not null;

    /// <summary>The public half, to hand to receivers: <c>whpk_…</c>.</summary>
    public string PublicText => PublicPrefix + Convert.ToBase64String(_public.Export(KeyBlobFormat.RawPublicKey));

    /// <summary>Reads a key.</summary>
    /// <param name="text"><c>whpk_</c> or <c>whsk_</c>, and base64.</param>
    /// <returns>The key.</returns>
    /// <exception cref="FormatException">It is not a key; the message does not tell it.</exception>
    public static Ed25519WebhookKey Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        bool isPrivate = text.StartsWith(PrivatePrefix, StringComparison.Ordinal);
        if (!isPrivate && !text.StartsWith(PublicPrefix, StringComparison.Ordinal))
        {
            throw new FormatException("An Ed25519 key begins with whpk_ or whsk_.");
        }

        Span<byte> bytes = stackalloc byte[2 * KeyBytes];
        try
        {
            ReadOnlySpan<char> encoded = text.AsSpan(PublicPrefix.Length);
            if (encoded.ContainsAny(Blanks) || !Convert.TryFromBase64Chars(encoded, bytes, out int written) || !(written == KeyBytes || (isPrivate && written == 2 * KeyBytes)))
            {
                throw new FormatException("An Ed25519 key is 32 bytes of base64 (a private one may be 64) after whpk_ or whsk_.");
            }

            return isPrivate ? Private(bytes[..written]) : new Ed25519WebhookKey(Public(bytes[..written]), null);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(bytes);
        }
    }

    /// <summary>A new pair.</summary>
    /// <returns>The private key, <c>whsk_…</c>, to keep, and the public one, <c>whpk_…</c>, to hand out.</returns>
    public static (string PrivateKey, string PublicKey) NewPair()
    {
        using Key key = Key.Create(SignatureAlgorithm.Ed25519, new KeyCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextExport });
        return (PrivatePrefix + Convert.ToBase64String(key.Export(KeyBlobFormat.RawPrivateKey)), PublicPrefix + Convert.ToBase64String(key.PublicKey.Export(KeyBlobFormat.RawPublicKey)));
    }

    /// <inheritdoc/>
    public override bool Verify(ReadOnlySpan<byte> message, ReadOnlySpan<byte> signature) =>
        signature.Length == SignatureBytes && SignatureAlgorithm.Ed25519.Verify(_public, message, signature);

    /// <inheritdoc/>
    public override void Sign(ReadOnlySpan<byte> message, Span<byte> signature) =>
        SignatureAlgorithm.Ed25519.Sign(_private ?? throw new InvalidOperationException("A key of whpk_ only verifies."), message, signature[..SignatureBytes]);

    private static SearchValues<char> Blanks { get; } = SearchValues.Create(" \t\r\n\v\f");

    private static Ed25519WebhookKey Private(ReadOnlySpan<byte> bytes)
    {
        Key key = Key.Import(SignatureAlgorithm.Ed25519, bytes[..KeyBytes], KeyBlobFormat.RawPrivateKey);
        if (bytes.Length > KeyBytes && !bytes[KeyBytes..].SequenceEqual(key.PublicKey.Export(KeyBlobFormat.RawPublicKey)))
        {
            key.Dispose();
            throw new FormatException("The two halves of an Ed25519 key of 64 bytes belong together, but these do not.");
        }

        return new Ed25519WebhookKey(key.PublicKey, key);
    }

    private static PublicKey Public(ReadOnlySpan<byte> bytes) =>
        PublicKey.TryImport(SignatureAlgorithm.Ed25519, bytes, KeyBlobFormat.RawPublicKey, out PublicKey? key) && key is not null ? key : throw new FormatException("The 32 bytes are no public key of Ed25519.");
}
