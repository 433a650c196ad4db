namespace Backend.Toolkit.Webhooks;

public sealed partial class WebhookScheme
{
    /// <summary>GitHub: <c>X-Hub-Signature-256: sha256=…</c>, hexadecimal. Neither a time nor the id, <c>X-GitHub-Delivery</c>, is signed.</summary>
    public static WebhookScheme GitHub { get; } = new()
    {
        Name = nameof(GitHub),
        IdHeader = "X-GitHub-Delivery",
        SignatureHeader = "X-Hub-Signature-256",
        SignaturePrefix = "sha256=",
    };
}
