using System.Buffers;
using System.Text;

namespace Backend.Toolkit.Webhooks;

/// <summary>What signers and verifiers have in common: a scheme and keys.</summary>
public abstract class WebhookOptions : IValidOptions
{
    internal const int MostKeys = 16;
    internal const int MostPublicKeys = 4;
    private const int MostSecretBytes = 1024;

    private static UTF8Encoding Utf8 { get; } = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>The label on metrics and in logs, and a part of what a <see cref="WebhookReplayGuard"/> remembers. Set by <c>AddWebhookSigner</c> and <c>AddWebhookVerifier</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>Where signatures stand and what is signed. Default <see cref="WebhookScheme.StandardWebhooks"/>.</summary>
    public WebhookScheme Scheme { get; set; } = WebhookScheme.StandardWebhooks;

    /// <summary>1 to 16 keys, at most 4 of them public or private keys. A verifier takes what any key in force has signed; a signer signs with all of them, or with the first where the scheme has room for one. No default.</summary>
    public IList<WebhookKey> Keys { get; } = [];

    /// <summary>The fewest bytes of a secret. An empty one is refused all the same. 1 to 1 024; default null: what the scheme asks for, 24 for Standard Webhooks, 16 elsewhere.</summary>
    public int? MinimumSecretBytes { get; set; }

    /// <summary>Reads <c>whpk_</c> and <c>whsk_</c> keys, or throws <see cref="FormatException"/>. Set by <c>UseEd25519</c> of <c>Backend.Toolkit.Webhooks.Ed25519</c>. Default null: such keys are refused.</summary>
    public Func<string, WebhookPublicKey>? PublicKeys { get; set; }

    /// <summary>Whether private keys are needed.</summary>
    internal abstract bool Signs { get; }

    /// <summary>One sentence for each value that is out of range: the rule, the value; never a secret. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public virtual IEnumerable<string> Problems()
    {
        string? scheme = Scheme is null ? "set" : Scheme.Problem();
        if (scheme is not null)
        {
            yield return this.Problem(nameof(Scheme), scheme, Scheme?.Name ?? "null");
        }

        if (MinimumSecretBytes is < 1 or > MostSecretBytes)
        {
            yield return this.Problem(nameof(MinimumSecretBytes), "null or between 1 and 1024", MinimumSecretBytes);
        }

        if (Keys.Count is < 1 or > MostKeys)
        {
            yield return this.Problem(nameof(Keys), "1 to 16 keys (without one, nobody could be told from a forger)", Keys.Count);
        }

        if (Keys.Count(key => IsPublic(key?.Secret)) > MostPublicKeys)
        {
            yield return this.Problem(nameof(Keys), "at most 4 keys of whpk_ or whsk_", Keys.Count(key => IsPublic(key?.Secret)));
        }

        for (int i = 0; i < Keys.Count && scheme is null; i++)
        {
            if (KeyProblem(Keys[i]) is { } problem)
            {
                yield return ValidOptions.Invariant($"{this.Subject()}: {nameof(Keys)}[{i}] {problem}");
            }
        }
    }

    /// <summary>The bytes of a secret, or null and what is wrong with it.</summary>
    internal byte[]? Bytes(string secret, out string problem)
    {
        problem = "";
        if (Scheme.Base64SecretPrefix is not { } prefix)
        {
            try
            {
                return Utf8.GetBytes(secret);
            }
            catch (EncoderFallbackException)
            {
                problem = "Secret must be well-formed text, but has half of a surrogate pair.";
                return null;
            }
        }

        string text = secret.StartsWith(prefix, StringComparison.Ordinal) ? secret[prefix.Length..] : secret;
        byte[] bytes = new byte[text.Length];
        if (text.AsSpan().ContainsAny(Blanks) || !Convert.TryFromBase64String(text, bytes, out int written))
        {
            problem = $"Secret must be base64, with or without {prefix} before it, but is not (a Stripe secret is text: set Scheme to Stripe).";
            return null;
        }

        // Stripe's command line gives whsec_ and 64 hexadecimal digits, which happen to be base64, too.
        if (text.Length == 64 && text.All(char.IsAsciiHexDigitLower))
        {
            problem = "Secret must be base64, but is 64 hexadecimal digits, such as a Stripe secret (set Scheme to Stripe).";
            return null;
        }

        return bytes[..written];
    }

    internal bool IsPublic(string? secret) =>
        Scheme?.PublicKeySignaturePrefix is not null && secret is not null && (secret.StartsWith("whpk_", StringComparison.Ordinal) || secret.StartsWith("whsk_", StringComparison.Ordinal));

    private static SearchValues<char> Blanks { get; } = SearchValues.Create(" \t\r\n\v\f");

    private string? KeyProblem(WebhookKey? key)
    {
        if (key is null)
        {
            return "must be other than null.";
        }

        if (key.NotBefore >= key.Expires)
        {
            return ValidOptions.Invariant($"must have NotBefore before Expires, but has {key.NotBefore:O} and {key.Expires:O}.");
        }

        // An empty key is one that everybody has.
        if (string.IsNullOrWhiteSpace(key.Secret) || key.Secret == Scheme.Base64SecretPrefix)
        {
            return "Secret must not be empty, but is.";
        }

        if (char.IsWhiteSpace(key.Secret[0]) || char.IsWhiteSpace(key.Secret[^1]))
        {
            return "Secret must not begin or end with white space, but does: is there a line break at the end of a file?";
        }

        if (IsPublic(key.Secret))
        {
            return PublicKeyProblem(key.Secret);
        }

        if (key.Secret.StartsWith("whpk_", StringComparison.Ordinal) || key.Secret.StartsWith("whsk_", StringComparison.Ordinal))
        {
            return $"Secret must be one of the scheme {Scheme}, but is a key for Standard Webhooks.";
        }

        if (Bytes(key.Secret, out string problem) is not { } bytes)
        {
            return problem;
        }

        int fewest = Math.Max(1, MinimumSecretBytes ?? Scheme.MinimumSecretBytes);
        return bytes.Length < fewest || bytes.Length > MostSecretBytes
            ? ValidOptions.Invariant($"Secret must have between {fewest} and {MostSecretBytes} bytes, but has {bytes.Length} (MinimumSecretBytes lowers the bound).")
            : bytes.AsSpan().ContainsAnyExcept((byte)0) ? null
            : "Secret must have a byte other than zero, but has none: HMAC pads keys with zeros, so it would be the empty one.";
    }

    private string? PublicKeyProblem(string secret)
    {
        if (PublicKeys is null)
        {
            return "Secret must be one of whsec_, since nothing reads whpk_ and whsk_: add Backend.Toolkit.Webhooks.Ed25519 and call UseEd25519().";
        }

        try
        {
            return Signs && !PublicKeys(secret).CanSign ? "Secret must be whsk_ to sign, but is whpk_, which only verifies."
                : !Signs && PublicKeys(secret).CanSign ? "Secret must be whpk_, but is whsk_: who only verifies must not be able to sign."
                : null;
        }
        catch (FormatException exception)
        {
            return $"Secret cannot be read: {exception.Message}";
        }
    }
}
