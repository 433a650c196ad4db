namespace Backend.Toolkit.Webhooks;

public sealed partial class WebhookScheme
{
    /// <summary>Standard Webhooks 1.0: <c>webhook-id</c>, <c>webhook-timestamp</c>, <c>webhook-signature</c>; secrets of base64, <c>whsec_…</c>, 24 bytes or more.</summary>
    public static WebhookScheme StandardWebhooks { get; } = new()
    {
        Name = nameof(StandardWebhooks),
        IdHeader = "webhook-id",
        TimestampHeader = "webhook-timestamp",
        SignatureHeader = "webhook-signature",
        SignedContent = "{id}.{timestamp}.{body}",
        Separator = ' ',
        SignaturePrefix = "v1,",
        PublicKeySignaturePrefix = "v1a,",
        Encoding = WebhookEncoding.Base64,
        Base64SecretPrefix = "whsec_",
        MinimumSecretBytes = 24,
    };
}
