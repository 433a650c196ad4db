namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>How much is held, over all requests, that nobody has verified yet. Taken as bytes arrive, not by what a header announces: to announce costs a forger nothing.</summary>
internal sealed class UnverifiedBytes
{
    private long _held;

    public long Held => Interlocked.Read(ref _held);

    /// <returns>False: that would be too much; nothing is taken.</returns>
    public bool TryTake(long count, long most)
    {
        // What is refused is never added, not for an instant: it would have others refused that fit.
        for (long held = Held; count <= most - held;)
        {
            long seen = Interlocked.CompareExchange(ref _held, held + count, held);
            if (seen == held)
            {
                return true;
            }

            held = seen;
        }

        return false;
    }

    public void Give(long count) => Interlocked.Add(ref _held, -count);
}
