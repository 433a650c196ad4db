namespace Backend.Toolkit.Webhooks;

/// <summary>
/// A verification whose body comes in pieces: <see cref="Append"/> each, then <see cref="Finish()"/>, and dispose of it in any case. It hashes as it goes, under all keys in force, and keeps no byte (with a public
/// key: all of them, since such a signature is of the whole). Not thread-safe, and worthless once it has ended. The default value has ended.
/// </summary>
public readonly struct WebhookSession : IDisposable
{
    private readonly WebhookVerifier? _verifier;
    private readonly WebhookState? _state;
    private readonly int _version;
    private readonly WebhookVerification _refusal;

    internal WebhookSession(WebhookVerifier verifier, WebhookState? state, WebhookVerification refusal)
    {
        _verifier = verifier;
        _state = state;
        _version = state?.Version ?? 0;
        _refusal = refusal;
    }

    /// <summary>Whether the headers alone are reason to refuse: the body need not be read.</summary>
    public bool IsRefused => _state is null;

    /// <summary>Adds the next bytes of the body.</summary>
    /// <param name="piece">Any number of bytes.</param>
    /// <exception cref="InvalidOperationException">The session has ended.</exception>
    public void Append(ReadOnlySpan<byte> piece)
    {
        if (!IsRefused || _verifier is null)
        {
            Running().AppendAll(piece);
        }
    }

    /// <summary>Ends the session.</summary>
    /// <returns>What was found.</returns>
    /// <exception cref="InvalidOperationException">The session has ended.</exception>
    public WebhookVerification Finish() => Finish(out _);

    /// <summary>Ends the session.</summary>
    /// <param name="message">What is known of a valid message.</param>
    /// <returns>What was found.</returns>
    /// <exception cref="InvalidOperationException">The session has ended.</exception>
    public WebhookVerification Finish(out WebhookMessage message)
    {
        message = default;
        if (_verifier is not null && IsRefused)
        {
            return _refusal;
        }

        WebhookState state = _state is not null && _state.End(_version) ? _state : throw Ended();
        try
        {
            Span<byte> mac = stackalloc byte[WebhookLayout.MacBytes];
            WebhookVerification result = state.CheckAll(mac) ? state.StillInTime(_verifier!.Time) : WebhookVerification.BadSignature;
            if (result == WebhookVerification.Valid)
            {
                message = state.Message(mac);
            }

            return _verifier!.Tell(state.Ring, result);
        }
        finally
        {
            state.Return();
        }
    }

    /// <summary>Ends the session if it has not ended: the body stopped half-way.</summary>
    public void Dispose()
    {
        if (_state is not null && _state.End(_version))
        {
            _state.Return();
        }
    }

    private WebhookState Running() => _state is not null && _state.Version == _version ? _state : throw Ended();

    private static InvalidOperationException Ended() => new("The session has ended, or never began.");
}
