using System.Security.Cryptography;

namespace Backend.Toolkit.Webhooks;

/// <summary>A secret, and from when to when it counts. Several overlap while one takes the place of another.</summary>
public sealed class WebhookKey
{
    /// <summary>A key without a secret, to be filled by configuration.</summary>
    public WebhookKey()
    {
    }

    /// <summary>A key that is always in force.</summary>
    /// <param name="secret">The secret, as the scheme writes it.</param>
    public WebhookKey(string secret) => Secret = secret;

    /// <summary>The secret, as the scheme writes it: <c>whsec_…</c> for Standard Webhooks, text elsewhere; with Ed25519 <c>whsk_…</c> to sign and <c>whpk_…</c> to verify. No default.</summary>
    public string Secret { get; set; } = "";

    /// <summary>The instant from which it is in force; null: always was. Default null.</summary>
    public DateTimeOffset? NotBefore { get; set; }

    /// <summary>The instant from which it is not in force any more; null: never. Default null.</summary>
    public DateTimeOffset? Expires { get; set; }

    /// <summary>A new secret for Standard Webhooks of 32 random bytes.</summary>
    /// <returns><c>whsec_</c> and 44 characters.</returns>
    public static string NewSecret() => WebhookScheme.StandardWebhooks.Base64SecretPrefix + Convert.ToBase64String(RandomNumberGenerator.GetBytes(32));

    /// <summary>Its validity; the secret is told to nobody.</summary>
    /// <returns>A text for people.</returns>
    public override string ToString() => ValidOptions.Invariant($"key from {NotBefore:O} to {Expires:O}");
}
