namespace Backend.Toolkit.Webhooks;

/// <summary>A guard's answer. When it is <see cref="WebhookReservationStatus.Reserved"/>: commit what was handled, release what failed; neither, and the message is refused until the lease ends.</summary>
public readonly struct WebhookReservation
{
    private readonly WebhookReplayStore? _store;
    private readonly WebhookReplayKey _key;
    private readonly long _fence;
    private readonly TimeSpan _keepFor;

    internal WebhookReservation(WebhookReplayAnswer answer, WebhookReplayStore store, WebhookReplayKey key, TimeSpan lease, TimeSpan keepFor)
    {
        Status = answer.Status;
        RetryAfter = answer.Status == WebhookReservationStatus.InProgress ? answer.LeaseLeft : TimeSpan.Zero;
        Lease = answer.Status == WebhookReservationStatus.Reserved ? lease : TimeSpan.Zero;
        _store = answer.Status == WebhookReservationStatus.Reserved ? store : null;
        _key = key;
        _fence = answer.Fence;
        _keepFor = keepFor;
    }

    /// <summary>What is known of the message.</summary>
    public WebhookReservationStatus Status { get; }

    /// <summary>In progress: how long the other's lease runs at most; zero otherwise.</summary>
    public TimeSpan RetryAfter { get; }

    /// <summary>Reserved: how long nobody else may handle the message, counted from when it was asked for; zero otherwise.</summary>
    public TimeSpan Lease { get; }

    /// <summary>The message was handled: it is never handled again while it is remembered.</summary>
    /// <param name="cancellationToken">Ends the call of the store; it may have been done.</param>
    /// <returns>False: the lease ended and somebody else handles the message.</returns>
    /// <exception cref="InvalidOperationException">Nothing was reserved.</exception>
    public ValueTask<bool> CommitAsync(CancellationToken cancellationToken = default) => Store.Commit(_key, _fence, _keepFor, cancellationToken);

    /// <summary>The message was not handled: the sender's next attempt is.</summary>
    /// <param name="cancellationToken">Ends the call of the store; it may have been done.</param>
    /// <returns>False: the lease ended and somebody else handles the message.</returns>
    /// <exception cref="InvalidOperationException">Nothing was reserved.</exception>
    public ValueTask<bool> ReleaseAsync(CancellationToken cancellationToken = default) => Store.Release(_key, _fence, cancellationToken);

    private WebhookReplayStore Store => _store ?? throw new InvalidOperationException($"Nothing was reserved: the message is {Status}.");
}
