using System.Buffers;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Backend.Toolkit.Webhooks;

/// <summary>
/// Says whether a message was signed under one of the keys in force, by its headers and its raw bytes. Accepts exactly when the list holds a valid signature, at any place; refuses, and never throws, for anything
/// that a sender can send. Headers of more than 4 096 characters or 32 signatures are not read. Signatures are compared as bytes in constant time. Allocates nothing; keyed hashes are used again. Thread-safe.
/// Sources: Standard Webhooks 1.0, and what Stripe, GitHub, Slack and Shopify document.
/// </summary>
public sealed class WebhookVerifier
{
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private volatile WebhookKeyRing _ring;

    /// <summary>Makes a verifier.</summary>
    /// <param name="options">The options; copied.</param>
    /// <param name="timeProvider">By whose clock timestamps and keys are judged; default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Hears that no key is in force.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the message names all that are.</exception>
    public WebhookVerifier(WebhookVerifierOptions options, TimeProvider? timeProvider = null, ILogger<WebhookVerifier>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        _time = timeProvider ?? TimeProvider.System;
        _logger = logger ?? NullLogger<WebhookVerifier>.Instance;
        _ring = new WebhookKeyRing(options, options.Tolerance);
    }

    internal WebhookKeyRing Ring => _ring;

    internal TimeProvider Time => _time;

    /// <summary>Verifies a body in one piece.</summary>
    /// <typeparam name="TSource">Where the headers are.</typeparam>
    /// <param name="source">Where the headers are.</param>
    /// <param name="read">Gives a header by its name, whose case does not matter; null: there is none. Values of a header that is there twice, joined by a comma, are as good as malformed.</param>
    /// <param name="body">The raw bytes, before anything has parsed them.</param>
    /// <returns>What was found.</returns>
    public WebhookVerification Verify<TSource>(TSource source, Func<TSource, string, string?> read, ReadOnlySpan<byte> body) => Verify(source, read, new WebhookBody(body), out _);

    /// <summary>Verifies a body in one piece.</summary>
    /// <typeparam name="TSource">Where the headers are.</typeparam>
    /// <param name="source">Where the headers are.</param>
    /// <param name="read">Gives a header by its name, whose case does not matter; null: there is none.</param>
    /// <param name="body">The raw bytes, before anything has parsed them.</param>
    /// <param name="message">What is known of a valid message.</param>
    /// <returns>What was found.</returns>
    public WebhookVerification Verify<TSource>(TSource source, Func<TSource, string, string?> read, ReadOnlySpan<byte> body, out WebhookMessage message) => Verify(source, read, new WebhookBody(body), out message);

    /// <summary>Verifies a body in segments.</summary>
    /// <typeparam name="TSource">Where the headers are.</typeparam>
    /// <param name="source">Where the headers are.</param>
    /// <param name="read">Gives a header by its name, whose case does not matter; null: there is none.</param>
    /// <param name="body">The raw bytes, before anything has parsed them.</param>
    /// <returns>What was found.</returns>
    public WebhookVerification Verify<TSource>(TSource source, Func<TSource, string, string?> read, ReadOnlySequence<byte> body) => Verify(source, read, new WebhookBody(body), out _);

    /// <summary>Verifies a body in segments.</summary>
    /// <typeparam name="TSource">Where the headers are.</typeparam>
    /// <param name="source">Where the headers are.</param>
    /// <param name="read">Gives a header by its name, whose case does not matter; null: there is none.</param>
    /// <param name="body">The raw bytes, before anything has parsed them.</param>
    /// <param name="message">What is known of a valid message.</param>
    /// <returns>What was found.</returns>
    public WebhookVerification Verify<TSource>(TSource source, Func<TSource, string, string?> read, ReadOnlySequence<byte> body, out WebhookMessage message) => Verify(source, read, new WebhookBody(body), out message);

    /// <summary>Begins to verify a body that is still to come. Headers, time and keys are judged now, the time again at the end.</summary>
    /// <typeparam name="TSource">Where the headers are.</typeparam>
    /// <param name="source">Where the headers are.</param>
    /// <param name="read">Gives a header by its name, whose case does not matter; null: there is none.</param>
    /// <returns>The session, to be disposed of.</returns>
    public WebhookSession Begin<TSource>(TSource source, Func<TSource, string, string?> read)
    {
        WebhookVerification opened = Open(source, read, out WebhookState state);
        if (opened != WebhookVerification.Valid)
        {
            state.Return();
            return new WebhookSession(this, null, Tell(state.Ring, opened));
        }

        state.BeginAll();
        return new WebhookSession(this, state, default);
    }

    /// <summary>Gives the verifier new keys and numbers, and closes the old ones; who has begun under those ends under them. The name stays.</summary>
    /// <param name="options">The options; copied.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the old options stay in force.</exception>
    public void Update(WebhookVerifierOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        WebhookKeyRing old = Interlocked.Exchange(ref _ring, new WebhookKeyRing(options, options.Tolerance, _ring.Name));
        old.Pool.Close();
    }

    /// <summary>Counts, and logs what somebody must mend.</summary>
    internal WebhookVerification Tell(WebhookKeyRing ring, WebhookVerification result)
    {
        if (Telemetry.CountsVerified)
        {
            Telemetry.Verified(ring.Name, result);
        }

        if (result == WebhookVerification.NoKeyInForce && ring.TellsNoKey())
        {
            Log.NoKeyInForce(_logger, "verifier", ring.Name, "every message is refused");
        }

        return result;
    }

    private WebhookVerification Open<TSource>(TSource source, Func<TSource, string, string?> read, out WebhookState state)
    {
        ArgumentNullException.ThrowIfNull(read);
        WebhookKeyRing ring = _ring;
        WebhookScheme scheme = ring.Layout.Scheme;

        // All that is not ours is called before a state is taken.
        string? signatures = read(source, scheme.SignatureHeader);
        string? id = scheme.IdHeader is { } idHeader ? read(source, idHeader) : null;
        string? timestamp = scheme.TimestampHeader is { } timestampHeader ? read(source, timestampHeader) : null;
        state = ring.Pool.Rent();
        return state.Open(id, timestamp, signatures, _time);
    }

    private WebhookVerification Verify<TSource>(TSource source, Func<TSource, string, string?> read, in WebhookBody body, out WebhookMessage message)
    {
        message = default;
        WebhookVerification result = Open(source, read, out WebhookState state);
        try
        {
            if (result == WebhookVerification.Valid)
            {
                Span<byte> mac = stackalloc byte[WebhookLayout.MacBytes];
                result = WebhookVerification.BadSignature;
                if (state.Check(body, mac))
                {
                    message = state.Message(mac);
                    result = WebhookVerification.Valid;
                }
            }
        }
        finally
        {
            state.Return();
        }

        return Tell(state.Ring, result);
    }
}
