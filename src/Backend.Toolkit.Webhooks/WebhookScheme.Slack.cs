namespace Backend.Toolkit.Webhooks;

public sealed partial class WebhookScheme
{
    /// <summary>Slack: <c>X-Slack-Request-Timestamp</c> and <c>X-Slack-Signature: v0=…</c>, hexadecimal.</summary>
    public static WebhookScheme Slack { get; } = new()
    {
        Name = nameof(Slack),
        TimestampHeader = "X-Slack-Request-Timestamp",
        SignatureHeader = "X-Slack-Signature",
        SignedContent = "v0:{timestamp}:{body}",
        SignaturePrefix = "v0=",
    };
}
