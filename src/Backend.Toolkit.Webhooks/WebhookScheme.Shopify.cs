namespace Backend.Toolkit.Webhooks;

public sealed partial class WebhookScheme
{
    /// <summary>Shopify: <c>X-Shopify-Hmac-Sha256</c>, base64. Neither a time nor the id, <c>X-Shopify-Webhook-Id</c>, is signed.</summary>
    public static WebhookScheme Shopify { get; } = new()
    {
        Name = nameof(Shopify),
        IdHeader = "X-Shopify-Webhook-Id",
        SignatureHeader = "X-Shopify-Hmac-Sha256",
        Encoding = WebhookEncoding.Base64,
    };
}
