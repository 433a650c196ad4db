using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Backend.Toolkit.Webhooks;

/// <summary>
/// Lets a verified message be handled once: reserve it, handle it, commit or release. Reserving is one atomic step of a store that all nodes share, or of this process's memory. Keyed on what was signed, never on a
/// header that a replayer may change. It fails closed: a store that throws and a memory that is full mean that the message is not handled. Thread-safe.
/// </summary>
public sealed class WebhookReplayGuard
{
    private readonly ReplayMemory _memory;
    private volatile Settings _settings;

    /// <summary>Makes a guard that has seen nothing.</summary>
    /// <param name="options">The options; copied.</param>
    /// <param name="timeProvider">Decides expiry in memory; default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Hears that the memory is full.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the message names all that are.</exception>
    public WebhookReplayGuard(WebhookReplayGuardOptions options, TimeProvider? timeProvider = null, ILogger<WebhookReplayGuard>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        _memory = new ReplayMemory(options.Name ?? "", timeProvider ?? TimeProvider.System, logger ?? NullLogger<WebhookReplayGuard>.Instance);
        _settings = Take(options);
    }

    /// <summary>How many messages are remembered in memory, some of which may have expired since somebody last asked.</summary>
    public int Count => _memory.Count;

    /// <summary>Reserves a message that was verified, by its <see cref="WebhookMessage.ReplayKey"/>.</summary>
    /// <param name="message">The message.</param>
    /// <param name="cancellationToken">Ends the call of the store; it may have reserved.</param>
    /// <returns>The reservation.</returns>
    /// <exception cref="InvalidOperationException">The message was not verified.</exception>
    public ValueTask<WebhookReservation> ReserveAsync(in WebhookMessage message, CancellationToken cancellationToken = default)
    {
        Settings settings = _settings;
        TimeSpan window = message.ReplayWindow ?? TimeSpan.Zero;
        bool comesAgain = message.IsIdSigned || message.ReplayWindow is null;
        return ReserveAsync(settings, message.ReplayKey, comesAgain && settings.RetryWindow > window ? settings.RetryWindow : window, cancellationToken);
    }

    /// <summary>Reserves a message by a key that the sender's next attempt has, too, for <see cref="WebhookReplayGuardOptions.RetryWindow"/>: <see cref="WebhookMessage.ReplayKeyOf"/>.</summary>
    /// <param name="key">The key, of something that was signed.</param>
    /// <param name="cancellationToken">Ends the call of the store; it may have reserved.</param>
    /// <returns>The reservation.</returns>
    public ValueTask<WebhookReservation> ReserveAsync(WebhookReplayKey key, CancellationToken cancellationToken = default)
    {
        Settings settings = _settings;
        return ReserveAsync(settings, key, settings.RetryWindow, cancellationToken);
    }

    /// <summary>Gives the guard new numbers, or another store. What is in memory stays.</summary>
    /// <param name="options">The options; copied.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the old options stay in force.</exception>
    public void Update(WebhookReplayGuardOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        _settings = Take(options);
    }

    private Settings Take(WebhookReplayGuardOptions options)
    {
        _memory.MaxKeys = options.MaxKeys;
        return new Settings(options.Name ?? "", options.Lease, options.RetryWindow, options.Store ?? _memory.Store);
    }

    private static async ValueTask<WebhookReservation> ReserveAsync(Settings settings, WebhookReplayKey key, TimeSpan keepFor, CancellationToken cancellationToken)
    {
        keepFor = keepFor > settings.Lease ? keepFor : settings.Lease;
        WebhookReplayAnswer answer = await settings.Store.Reserve(new WebhookReplayRequest { Key = key, Lease = settings.Lease, KeepFor = keepFor }, cancellationToken).ConfigureAwait(false);
        Telemetry.Reserved(settings.Name, answer.Status);
        return new WebhookReservation(answer, settings.Store, key, settings.Lease, keepFor);
    }

    private sealed record Settings(string Name, TimeSpan Lease, TimeSpan RetryWindow, WebhookReplayStore Store);
}
