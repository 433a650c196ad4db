namespace Backend.Toolkit.Webhooks;

public sealed partial class WebhookScheme
{
    /// <summary>Stripe: <c>Stripe-Signature: t=…,v1=…</c>, hexadecimal; the secret is text, its <c>whsec_</c> included.</summary>
    public static WebhookScheme Stripe { get; } = new()
    {
        Name = nameof(Stripe),
        SignatureHeader = "Stripe-Signature",
        SignedContent = "{timestamp}.{body}",
        Separator = ',',
        TimestampPrefix = "t=",
        SignaturePrefix = "v1=",
    };
}
