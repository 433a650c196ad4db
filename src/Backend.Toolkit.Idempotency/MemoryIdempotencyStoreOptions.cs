namespace Backend.Toolkit.Idempotency;

/// <summary>How much a store in memory holds. Full of records that have not expired it refuses new ones; it forgets none.</summary>
public sealed class MemoryIdempotencyStoreOptions : IValidOptions
{
    /// <summary>The label on metrics and in logs. Set by <c>AddMemoryIdempotencyStore</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>The most records. 1 to 100 000 000; default 100 000.</summary>
    public int MaxRecords { get; set; } = 100_000;

    /// <summary>
    /// The most bytes of outcomes and phases with which a new record is begun; records that were begun are always ended. 1 to 2^40; default 268 435 456 (256 MiB).
    /// </summary>
    public long MaxBytes { get; set; } = 268_435_456;

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (MaxRecords is < 1 or > 100_000_000)
        {
            yield return this.Problem(nameof(MaxRecords), "between 1 and 100000000", MaxRecords);
        }

        if (MaxBytes is < 1 or > 1L << 40)
        {
            yield return this.Problem(nameof(MaxBytes), "between 1 and 1099511627776", MaxBytes);
        }
    }
}
