using System.Buffers;
using System.Globalization;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Backend.Toolkit.Webhooks;

/// <summary>
/// Signs raw bytes and writes the headers of the scheme: under all keys in force where the scheme has room for several signatures, so that a receiver may change its key at any time meanwhile, otherwise under the first.
/// Allocates nothing of its own; keyed hashes are used again. Thread-safe.
/// </summary>
public sealed class WebhookSigner
{
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private volatile WebhookKeyRing _ring;

    /// <summary>Makes a signer.</summary>
    /// <param name="options">The options; copied.</param>
    /// <param name="timeProvider">Gives timestamps, and judges keys; default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Hears that no key is in force.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the message names all that are.</exception>
    public WebhookSigner(WebhookSignerOptions options, TimeProvider? timeProvider = null, ILogger<WebhookSigner>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        _time = timeProvider ?? TimeProvider.System;
        _logger = logger ?? NullLogger<WebhookSigner>.Instance;
        _ring = new WebhookKeyRing(options, default);
    }

    /// <summary>Signs a body in one piece.</summary>
    /// <typeparam name="TTarget">What takes the headers.</typeparam>
    /// <param name="target">What takes the headers.</param>
    /// <param name="write">Called once for each header.</param>
    /// <param name="id">The id of the message, the same for each attempt: 1 to 255 visible ASCII characters, without a dot for Standard Webhooks. Needed where it is signed, written where there is a header for it, unused elsewhere.</param>
    /// <param name="body">The raw bytes, as they will be sent.</param>
    /// <param name="timestamp">The time to sign; null: now.</param>
    /// <exception cref="ArgumentException">The id cannot be signed, or the time is before 1970.</exception>
    /// <exception cref="InvalidOperationException">No key is in force.</exception>
    public void Sign<TTarget>(TTarget target, WebhookHeaderWriter<TTarget> write, string? id, ReadOnlySpan<byte> body, DateTimeOffset? timestamp = null) =>
        Sign(target, write, id, new WebhookBody(body), timestamp);

    /// <summary>Signs a body in segments.</summary>
    /// <typeparam name="TTarget">What takes the headers.</typeparam>
    /// <param name="target">What takes the headers.</param>
    /// <param name="write">Called once for each header.</param>
    /// <param name="id">The id of the message, as for a body in one piece.</param>
    /// <param name="body">The raw bytes, as they will be sent.</param>
    /// <param name="timestamp">The time to sign; null: now.</param>
    /// <exception cref="ArgumentException">The id cannot be signed, or the time is before 1970.</exception>
    /// <exception cref="InvalidOperationException">No key is in force.</exception>
    public void Sign<TTarget>(TTarget target, WebhookHeaderWriter<TTarget> write, string? id, ReadOnlySequence<byte> body, DateTimeOffset? timestamp = null) =>
        Sign(target, write, id, new WebhookBody(body), timestamp);

    /// <summary>Gives the signer new keys. The name stays.</summary>
    /// <param name="options">The options; copied.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the old options stay in force.</exception>
    public void Update(WebhookSignerOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        WebhookKeyRing old = Interlocked.Exchange(ref _ring, new WebhookKeyRing(options, default, _ring.Name));
        old.Pool.Close();
    }

    private void Sign<TTarget>(TTarget target, WebhookHeaderWriter<TTarget> write, string? id, in WebhookBody body, DateTimeOffset? timestamp)
    {
        ArgumentNullException.ThrowIfNull(write);
        WebhookKeyRing ring = _ring;
        WebhookLayout layout = ring.Layout;
        WebhookScheme scheme = layout.Scheme;
        if (scheme.IdHeader is not null && (id is null ? layout.SignsId : !layout.IsId(id)))
        {
            throw new ArgumentException(
                ValidOptions.Invariant($"{ring.Name}: an id must have 1 to {WebhookLayout.MostIdLength} visible ASCII characters{(layout.AfterId is { } after ? $", none of them '{after}', which ends it in what is signed" : "")}."),
                nameof(id));
        }

        DateTimeOffset now = ring.NeedsTime ? _time.GetUtcNow() : default;
        long seconds = (timestamp ?? now).ToUnixTimeSeconds();
        if (layout.HasTimestamp)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(seconds, nameof(timestamp));
        }

        uint inForce = ring.InForce(now);
        if (inForce == 0)
        {
            if (ring.TellsNoKey())
            {
                Log.NoKeyInForce(_logger, "signer", ring.Name, "nothing can be signed");
            }

            throw new InvalidOperationException($"{ring.Name}: no key is in force; look at NotBefore and Expires of Keys.");
        }

        Span<char> digits = stackalloc char[20];
        seconds.TryFormat(digits, out int length, provider: CultureInfo.InvariantCulture);
        digits = digits[..length];
        WebhookState state = ring.Pool.Rent();
        try
        {
            ReadOnlySpan<char> signatures = state.Sign(id, digits, inForce, body);
            if (scheme.IdHeader is not null && id is not null)
            {
                write(target, scheme.IdHeader, id);
            }

            if (scheme.TimestampHeader is not null)
            {
                write(target, scheme.TimestampHeader, digits);
            }

            write(target, scheme.SignatureHeader, signatures);
        }
        finally
        {
            state.Return();
        }

        if (Telemetry.CountsSigned)
        {
            Telemetry.Signed(ring.Name);
        }
    }
}
