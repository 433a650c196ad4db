namespace Backend.Toolkit.Webhooks;

/// <summary>Keeps a few states of one ring between messages. Lock-free: a state is in a slot or with somebody, moved by an interlocked exchange.</summary>
internal sealed class WebhookStatePool(WebhookKeyRing ring)
{
    private readonly WebhookState?[] _slots = new WebhookState?[Math.Clamp(2 * Environment.ProcessorCount, 8, 64)];
    private volatile bool _closed;

    public WebhookState Rent()
    {
        foreach (ref WebhookState? slot in _slots.AsSpan())
        {
            if (slot is not null && Interlocked.Exchange(ref slot, null) is { } state)
            {
                return state;
            }
        }

        return new WebhookState(ring);
    }

    public void Return(WebhookState state)
    {
        foreach (ref WebhookState? slot in _slots.AsSpan())
        {
            if (slot is null && Interlocked.CompareExchange(ref slot, state, null) is null)
            {
                // Closed between the two: whoever closed has looked into this slot already.
                if (_closed)
                {
                    Drain();
                }

                return;
            }
        }

        state.Dispose();
    }

    /// <summary>The ring was replaced: what comes back is let go.</summary>
    public void Close()
    {
        _closed = true;
        Drain();
    }

    internal int Kept => _slots.Count(slot => slot is not null);

    private void Drain()
    {
        foreach (ref WebhookState? slot in _slots.AsSpan())
        {
            Interlocked.Exchange(ref slot, null)?.Dispose();
        }
    }
}
