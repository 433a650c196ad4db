namespace Backend.Toolkit.Webhooks.Ed25519;

/// <summary>Lets signers and verifiers of Standard Webhooks take Ed25519 keys beside, or instead of, secrets.</summary>
public static class WebhookOptionsExtensions
{
    /// <summary>Reads <c>whsk_</c> keys (to sign) and <c>whpk_</c> keys (to verify) among <see cref="WebhookOptions.Keys"/>, also those that configuration adds later.</summary>
    /// <param name="options">The options of a signer or a verifier.</param>
    public static void UseEd25519(this WebhookOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.PublicKeys = Ed25519WebhookKey.Parse;
    }
}
