using System.Net.Http.Headers;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>Valid options, and what is made of them once.</summary>
internal sealed class Settings
{
    public Settings(WebhookDeliveryOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        Options = options;
        Rules = new EndpointRules(options);
        ContentType = MediaTypeHeaderValue.Parse(options.ContentType);
    }

    public WebhookDeliveryOptions Options { get; }

    public EndpointRules Rules { get; }

    public MediaTypeHeaderValue ContentType { get; }
}
