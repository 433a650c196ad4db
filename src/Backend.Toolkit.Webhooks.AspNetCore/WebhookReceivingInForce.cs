namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>The options as they are for the next request, and what all requests share.</summary>
internal sealed class WebhookReceivingInForce
{
    private volatile Settings _settings;

    public WebhookReceivingInForce(WebhookReceivingOptions options)
    {
        options.ThrowIfInvalid();
        _settings = new Settings(options);
    }

    public Settings Current => _settings;

    public UnverifiedBytes Unverified { get; } = new();

    public void Update(WebhookReceivingOptions options) => _settings = new Settings(options);

    /// <summary>The options as they were when they came into force.</summary>
    internal sealed class Settings(WebhookReceivingOptions options)
    {
        public long MaxBodyBytes { get; } = options.MaxBodyBytes;

        public long MaxUnverifiedBytes { get; } = options.MaxUnverifiedBytes;

        public int MaxBytesInMemory { get; } = options.MaxBytesInMemory;

        public TimeSpan ReadTimeout { get; } = options.ReadTimeout;

        public TimeSpan MaxRunTime { get; } = options.MaxRunTime;

        public TimeSpan StoreTimeout { get; } = options.StoreTimeout;

        public TimeSpan RetryAfter { get; } = options.RetryAfter;
    }
}
