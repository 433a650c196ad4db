namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>Where events of one audience are sent, as <see cref="WebhookEndpoints"/> tells it: without secrets.</summary>
/// <param name="Id">Given by <see cref="WebhookEndpoints.CreateAsync"/>.</param>
/// <param name="Audience">Whose events it gets; it never changes.</param>
/// <param name="Url">Where they are posted.</param>
/// <param name="Types">The event types that it gets; empty: all.</param>
/// <param name="IsEnabled">False: nothing is sent; what is pending becomes a dead letter.</param>
/// <param name="DisabledReason">Why it is disabled, or null.</param>
/// <param name="ConsecutiveFailures">0 after a success; 502 and 504 count twice.</param>
/// <param name="FailingSince">When the run of nothing but failures began, by the store's clock.</param>
/// <param name="PausedUntil">Nothing is sent before, by the store's clock.</param>
/// <param name="CreatedAt">By the store's clock.</param>
public sealed record WebhookEndpoint(string Id, string Audience, string Url, IReadOnlyList<string> Types, bool IsEnabled, string? DisabledReason, int ConsecutiveFailures, DateTimeOffset? FailingSince, DateTimeOffset? PausedUntil, DateTimeOffset CreatedAt);
