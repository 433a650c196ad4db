namespace Backend.Toolkit.Pagination;

/// <summary>How cursors are sealed, and how large pages are.</summary>
public sealed class CursorPaginatorOptions : IValidOptions
{
    private static TimeSpan ShortestExpiry { get; } = TimeSpan.FromSeconds(10);

    private static TimeSpan LongestExpiry { get; } = TimeSpan.FromDays(3650);

    /// <summary>The label on metrics and in logs. Set by <c>AddCursorPagination</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>
    /// The secrets that open cursors; the last one seals. To rotate without refusing anybody: first put the new key before the old one everywhere, then after it, and take the
    /// old one away when its cursors are no longer wanted. No default: one is required, unless <see cref="RandomKey"/>.
    /// </summary>
    public IList<CursorKey> Keys { get; } = [];

    /// <summary>
    /// Without <see cref="Keys"/>: seals under a random key of this instance, so that cursors end with the process and other processes refuse them; a warning is logged. Set by
    /// <c>AddCursorPagination</c> in the environment Development when there are no keys. Default false.
    /// </summary>
    public bool RandomKey { get; set; }

    /// <summary>Hides the keys of the rows from who holds a cursor. Cursors of both kinds are opened. Default false: they are sealed, and can be read.</summary>
    public bool Encrypt { get; set; }

    /// <summary>
    /// How long a cursor is good for; it is kept up to an eighth longer, so that the same page gives the same cursor for that long. 10 s to 3 650 days, or null: for ever. Default null.
    /// </summary>
    public TimeSpan? Expiry { get; set; }

    /// <summary>The longest cursor that is made or looked at, in characters. 64 to 65 536; default 4 096.</summary>
    public int MaxCursorLength { get; set; } = 4_096;

    /// <summary>The size of a page when none is asked for. 1 to <see cref="MaxSize"/>; default 20.</summary>
    public int DefaultSize { get; set; } = 20;

    /// <summary>The largest page. 1 to 1 000 000; default 100.</summary>
    public int MaxSize { get; set; } = 100;

    /// <summary>Refuses a size above <see cref="MaxSize"/> (<see cref="InvalidPageSizeException"/>) instead of giving that many. Default false.</summary>
    public bool RefuseOversized { get; set; }

    /// <summary>Where <see cref="TotalKind.Capped"/> stops to count. 1 to 1 000 000 000; default 1 000.</summary>
    public int TotalCap { get; set; } = 1_000;

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (Keys.Count == 0 && !RandomKey)
        {
            yield return this.Problem(nameof(Keys), "at least one key with a secret of 32 random bytes (in Development a random key does: RandomKey)", "empty");
        }

        for (int i = 0; i < Keys.Count; i++)
        {
            CursorKey? key = Keys[i];
            if (key is null)
            {
                yield return this.Problem(nameof(Keys), "keys other than null", "null");
                continue;
            }

            if (key.Id is < 0 or > 255)
            {
                yield return this.Problem(nameof(Keys), "keys with an Id between 0 and 255", key.Id);
            }

            if (Keys.Take(i).Any(other => other?.Id == key.Id))
            {
                yield return ValidOptions.Invariant($"{this.Subject()}: {nameof(Keys)} must be keys with different Ids, but two have Id {key.Id}.");
            }

            // The secret itself is never told.
            if (key.Secret is not { Length: >= 32 })
            {
                yield return ValidOptions.Invariant($"{this.Subject()}: {nameof(Keys)} must be keys with a Secret of at least 32 bytes, but that of Id {key.Id} has {key.Secret?.Length ?? 0}.");
            }
        }

        if (Expiry is TimeSpan expiry && (expiry < ShortestExpiry || expiry > LongestExpiry))
        {
            yield return this.Problem(nameof(Expiry), ValidOptions.Invariant($"null or between {ShortestExpiry} and {LongestExpiry}"), expiry);
        }

        if (MaxCursorLength is < 64 or > 65_536)
        {
            yield return this.Problem(nameof(MaxCursorLength), "between 64 and 65536", MaxCursorLength);
        }

        if (MaxSize is < 1 or > 1_000_000)
        {
            yield return this.Problem(nameof(MaxSize), "between 1 and 1000000", MaxSize);
        }

        if (DefaultSize < 1 || DefaultSize > MaxSize)
        {
            yield return this.Problem(nameof(DefaultSize), ValidOptions.Invariant($"between 1 and MaxSize ({MaxSize})"), DefaultSize);
        }

        if (TotalCap is < 1 or > 1_000_000_000)
        {
            yield return this.Problem(nameof(TotalCap), "between 1 and 1000000000", TotalCap);
        }
    }
}
