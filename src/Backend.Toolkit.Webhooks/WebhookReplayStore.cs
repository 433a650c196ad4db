namespace Backend.Toolkit.Webhooks;

/// <summary>
/// Where all nodes remember what they have seen, as three delegates, each one atomic step of the store. A store of <c>Backend.Toolkit.Idempotency</c> fits: begin, complete, abandon (<c>samples/webhooks.cs</c> has the
/// lines). All three are needed, which <see cref="WebhookReplayGuardOptions.Problems"/> checks. What a delegate throws, the guard throws: a message that cannot be remembered is not handled.
/// </summary>
public sealed class WebhookReplayStore
{
    /// <summary>Reserves the key with a new fence, unless it is committed or reserved with a lease that runs.</summary>
    public Func<WebhookReplayRequest, CancellationToken, ValueTask<WebhookReplayAnswer>> Reserve { get; init; } = null!;

    /// <summary>Commits the key that is reserved under this fence, for so long. False: it is not.</summary>
    public Func<WebhookReplayKey, long, TimeSpan, CancellationToken, ValueTask<bool>> Commit { get; init; } = null!;

    /// <summary>Forgets the key that is reserved under this fence. False: it is not.</summary>
    public Func<WebhookReplayKey, long, CancellationToken, ValueTask<bool>> Release { get; init; } = null!;
}
