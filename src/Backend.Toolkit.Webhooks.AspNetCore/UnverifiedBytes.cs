namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>How much is held, over all requests, that nobody has verified yet. Taken as bytes arrive, not by what a header announces: to announce costs a forger nothing.</summary>
internal sealed class UnverifiedBytes
{
    private long _held;

    public long Held => Interlocked.Read(ref _held);

    /// <returns>False: that would be too much; nothing is taken.</returns>
    public bool TryTake(long count, long most)
    {
        if (Interlocked.Add(ref _held, count) <= most)
        {
            return true;
        }

        Give(count);
        return false;
    }

    public void Give(long count) => Interlocked.Add(ref _held, -count);
}
