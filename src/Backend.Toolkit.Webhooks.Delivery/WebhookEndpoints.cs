using System.Text;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>
/// The endpoints: created, changed, disabled, given new secrets. Whether who asks may see an endpoint is the application's to decide, by <see cref="WebhookEndpoint.Audience"/>. Thread-safe; changes that meet are
/// made one after the other.
/// </summary>
public sealed class WebhookEndpoints
{
    /// <summary>The type of the event that tells an audience's enabled endpoints that one was disabled.</summary>
    public const string DisabledType = "webhook.endpoint.disabled";
    internal const string TestType = "webhook.test";

    private const int MostTypes = 100;
    private const int LongestReason = 256;

    private readonly IWebhookDeliveryStore _store;
    private readonly TimeProvider _timeProvider;
    private readonly WebhookOutbox _outbox;
    private volatile Settings _settings;

    /// <summary>Makes it.</summary>
    /// <param name="options">The same as the worker's.</param>
    /// <param name="store">The store.</param>
    /// <param name="timeProvider">Default: the system's. It decides when a secret that was replaced expires.</param>
    /// <param name="worker">The worker of this process, if there is one.</param>
    public WebhookEndpoints(WebhookDeliveryOptions options, IWebhookDeliveryStore store, TimeProvider? timeProvider = null, WebhookDeliveryWorker? worker = null)
    {
        ArgumentNullException.ThrowIfNull(store);
        _settings = new Settings(options);
        _store = store;
        _timeProvider = timeProvider ?? TimeProvider.System;
        _outbox = new WebhookOutbox(store, worker) { Name = options.Name };
    }

    /// <summary>New options hold from the next call on.</summary>
    /// <param name="options">The options.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">They are invalid; the old ones stay in force.</exception>
    public void Update(WebhookDeliveryOptions options) => _settings = new Settings(options);

    /// <summary>Adds an endpoint.</summary>
    /// <param name="audience">Whose events it gets.</param>
    /// <param name="url">Where they are posted.</param>
    /// <param name="types">The event types that it gets, 100 at most; null or empty: all.</param>
    /// <param name="secret">A secret of Standard Webhooks: <c>whsec_</c> and 24 to 1 024 bytes in base64. Null: a new one of 32 bytes.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The endpoint and its secret.</returns>
    /// <exception cref="WebhookEndpointRefusedException">The URL is refused.</exception>
    /// <exception cref="ArgumentException">The audience, a type or the secret is not what it must be.</exception>
    public async ValueTask<NewWebhookEndpoint> CreateAsync(string audience, string url, IReadOnlyList<string>? types = null, string? secret = null, CancellationToken cancellationToken = default)
    {
        Settings settings = _settings;
        if (!WebhookOutbox.IsText(audience))
        {
            throw new ArgumentException("The audience must have 1 to 128 characters, none of them a control character or half a surrogate pair.", nameof(audience));
        }

        ThrowIfRefused(settings, url);
        IReadOnlyList<string> checkedTypes = Checked(types ?? []);
        secret = secret is null ? WebhookKey.NewSecret() : Secrets.ThrowIfBad(secret);
        DateTimeOffset now = _timeProvider.GetUtcNow();
        var endpoint = new WebhookEndpoint($"ep_{Guid.CreateVersion7():N}", audience, url, checkedTypes, true, null, 0, null, null, now);
        await _store.InsertEndpointAsync(new WebhookEndpointRow(endpoint, Secrets.Add("", secret, now, now, settings.Options), 0), cancellationToken).ConfigureAwait(false);
        return new NewWebhookEndpoint(endpoint, secret);
    }

    /// <summary>Changes where events are posted, and which. With another URL failures and pause are forgotten, and what the old one still answers does not count against the endpoint.</summary>
    /// <param name="endpointId">The endpoint.</param>
    /// <param name="url">Null: as it is.</param>
    /// <param name="types">Null: as they are; empty: all.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The endpoint.</returns>
    /// <exception cref="WebhookEndpointRefusedException">The URL is refused.</exception>
    /// <exception cref="KeyNotFoundException">There is no such endpoint.</exception>
    public async ValueTask<WebhookEndpoint> ChangeAsync(string endpointId, string? url = null, IReadOnlyList<string>? types = null, CancellationToken cancellationToken = default)
    {
        if (url is not null)
        {
            ThrowIfRefused(_settings, url);
        }

        IReadOnlyList<string>? checkedTypes = types is null ? null : Checked(types);
        return await ApplyAsync(endpointId, row => row with { Endpoint = row.Endpoint with { Url = url ?? row.Endpoint.Url, Types = checkedTypes ?? row.Endpoint.Types } }, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Sends again; failures and pause of one that was disabled are forgotten. What became a dead letter meanwhile is sent after a redrive.</summary>
    /// <param name="endpointId">The endpoint.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The endpoint.</returns>
    /// <exception cref="KeyNotFoundException">There is no such endpoint.</exception>
    public ValueTask<WebhookEndpoint> EnableAsync(string endpointId, CancellationToken cancellationToken = default) =>
        ApplyAsync(endpointId, static row => row with { Endpoint = row.Endpoint with { IsEnabled = true, DisabledReason = null } }, cancellationToken);

    /// <summary>Sends nothing more; what is pending, and what comes, becomes a dead letter.</summary>
    /// <param name="endpointId">The endpoint.</param>
    /// <param name="reason">At most 256 characters.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The endpoint.</returns>
    /// <exception cref="KeyNotFoundException">There is no such endpoint.</exception>
    public ValueTask<WebhookEndpoint> DisableAsync(string endpointId, string reason, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(reason);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(reason.Length, LongestReason, nameof(reason));
        return ApplyAsync(endpointId, row => row with { Endpoint = row.Endpoint with { IsEnabled = false, DisabledReason = reason } }, cancellationToken);
    }

    /// <summary>Gives the endpoint a new secret. For as long as they overlap, each attempt is signed with both.</summary>
    /// <param name="endpointId">The endpoint.</param>
    /// <param name="overlap">How long the old secrets are still signed with; zero: no longer. Up to 30 days.</param>
    /// <param name="secret">Null: a new one.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The new secret, which is told this once.</returns>
    /// <exception cref="KeyNotFoundException">There is no such endpoint.</exception>
    public async ValueTask<string> RotateSecretAsync(string endpointId, TimeSpan overlap, string? secret = null, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(overlap, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(overlap, TimeSpan.FromDays(30));
        secret = secret is null ? WebhookKey.NewSecret() : Secrets.ThrowIfBad(secret);
        DateTimeOffset now = _timeProvider.GetUtcNow();
        WebhookDeliveryOptions options = _settings.Options;
        await ApplyAsync(endpointId, row => row with { Secrets = Secrets.Add(row.Secrets, secret, now + overlap, now, options) }, cancellationToken).ConfigureAwait(false);
        return secret;
    }

    /// <summary>Enqueues an event of type <c>webhook.test</c> for this endpoint alone, whatever it subscribes to.</summary>
    /// <param name="endpointId">The endpoint.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The id of the event, by which its delivery is found.</returns>
    /// <exception cref="KeyNotFoundException">There is no such endpoint.</exception>
    public async ValueTask<string> SendTestAsync(string endpointId, CancellationToken cancellationToken = default)
    {
        WebhookEndpointRow row = await FindRowAsync(endpointId, cancellationToken).ConfigureAwait(false);
        byte[] payload = Encoding.UTF8.GetBytes($$$"""{"type":"{{{TestType}}}","data":{}}""");
        return await _outbox.EnqueueAsync(new WebhookEvent(TestType, payload, row.Endpoint.Audience), endpointId, null, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>One endpoint.</summary>
    /// <param name="endpointId">Its id.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>Null: there is none.</returns>
    public async ValueTask<WebhookEndpoint?> FindAsync(string endpointId, CancellationToken cancellationToken = default) =>
        (await _store.FindEndpointAsync(endpointId, cancellationToken).ConfigureAwait(false))?.Endpoint;

    /// <summary>The endpoints of an audience, oldest first.</summary>
    /// <param name="audience">Null: of all.</param>
    /// <param name="afterId">Behind this one; null: from the first.</param>
    /// <param name="limit">1 to 1 000; default 100.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The endpoints.</returns>
    public ValueTask<IReadOnlyList<WebhookEndpoint>> ListAsync(string? audience, string? afterId = null, int limit = 100, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(limit, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(limit, 1000);
        return _store.ListEndpointsAsync(audience, afterId ?? "", limit, cancellationToken);
    }

    private async ValueTask<WebhookEndpoint> ApplyAsync(string endpointId, Func<WebhookEndpointRow, WebhookEndpointRow> change, CancellationToken cancellationToken)
    {
        while (true)
        {
            WebhookEndpointRow row = await FindRowAsync(endpointId, cancellationToken).ConfigureAwait(false);
            WebhookEndpointRow changed = change(row);
            if (await _store.UpdateEndpointAsync(changed, cancellationToken).ConfigureAwait(false))
            {
                return changed.Endpoint;
            }
        }
    }

    private async ValueTask<WebhookEndpointRow> FindRowAsync(string endpointId, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(endpointId);
        return await _store.FindEndpointAsync(endpointId, cancellationToken).ConfigureAwait(false) ?? throw new KeyNotFoundException("There is no such endpoint.");
    }

    private static void ThrowIfRefused(Settings settings, string url)
    {
        if (settings.Rules.Refusal(url, out _) is string refusal)
        {
            throw new WebhookEndpointRefusedException(refusal);
        }
    }

    private static IReadOnlyList<string> Checked(IReadOnlyList<string> types) => types.Count <= MostTypes && types.All(WebhookOutbox.IsType)
        ? [.. types.Distinct(StringComparer.Ordinal)]
        : throw new ArgumentException("The types must be at most 100, each of 1 to 128 visible ASCII characters.", nameof(types));
}
