namespace Backend.Toolkit.Webhooks;

/// <summary>Options of a <see cref="WebhookSigner"/>.</summary>
public sealed class WebhookSignerOptions : WebhookOptions
{
    internal override bool Signs => true;
}
