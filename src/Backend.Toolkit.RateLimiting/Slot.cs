namespace Backend.Toolkit.RateLimiting;

/// <summary>Where a key's state is: a slot of a table, and the fingerprint under which it was found there.</summary>
internal readonly ref struct Slot(KeyTable table, int index, ulong fingerprint)
{
    private readonly ref KeyTable.Entry _entry = ref table.At(index);

    public ulong Fingerprint => fingerprint;

    public int Index => index;

    /// <summary>Asked between the reading of a word and the compare-and-swap on it: then the word read was this key's, and so is the word changed.</summary>
    public bool IsStillOurs => Volatile.Read(ref _entry.Fingerprint) == fingerprint;

    public ref long FirstWord => ref _entry.Word;

    /// <summary>Grows by the permits that are given back to the key that has this slot, and also when another takes it.</summary>
    public long Refunded => table.RefundedOf(index);

    public void CountRefund(int permits) => table.CountRefund(index, permits);

    public Span<uint> Log => table.LogOf(index);

    public ref long Word(int window) => ref window == 0 ? ref _entry.Word : ref table.FurtherWordOf(index, window);

    public void Rename(ulong renamed) => Volatile.Write(ref _entry.Fingerprint, renamed);
}
