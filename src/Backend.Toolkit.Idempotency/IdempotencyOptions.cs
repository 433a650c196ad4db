namespace Backend.Toolkit.Idempotency;

/// <summary>How long a claim and an outcome hold, and what happens to duplicates and during an outage of the store.</summary>
public sealed class IdempotencyOptions : IValidOptions
{
    private const int ShortestSecret = 16;

    private static TimeSpan ShortestLease { get; } = TimeSpan.FromMilliseconds(100);

    private static TimeSpan LongestLease { get; } = TimeSpan.FromDays(1);

    private static TimeSpan LongestRetention { get; } = TimeSpan.FromDays(365);

    private static TimeSpan LongestWait { get; } = TimeSpan.FromHours(1);

    /// <summary>The label on metrics and in logs, and the operation that the keys of an executor belong to. Set by <c>AddIdempotency</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>How long a claim holds without a sign of life; renewed at a third of it. 100 ms to 1 day; default 30 s.</summary>
    public TimeSpan Lease { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>How long an outcome is kept, and a claim that nobody ended. <see cref="Lease"/> to 365 days; default 24 h.</summary>
    public TimeSpan Retention { get; set; } = TimeSpan.FromHours(24);

    /// <summary>The largest content of an outcome, and value of a phase, that is kept, in bytes; a larger outcome leaves a tombstone. 0 to 16 MiB; default 65 536.</summary>
    public int MaxOutcomeBytes { get; set; } = 65_536;

    /// <summary>Lease mode: what happens to a request whose key is in progress. Default <see cref="DuplicatePolicy.Reject"/>.</summary>
    public DuplicatePolicy Duplicates { get; set; } = DuplicatePolicy.Reject;

    /// <summary>Transaction mode: the same. Default <see cref="DuplicatePolicy.WaitAndReplay"/>.</summary>
    public DuplicatePolicy DuplicatesInTransaction { get; set; } = DuplicatePolicy.WaitAndReplay;

    /// <summary>The longest wait for another run of the same key; the lock timeout in transaction mode. Above 0 to 1 h; default 10 s.</summary>
    public TimeSpan MaxWait { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>What is left of the caller's deadline, asked when a wait begins, which it bounds. Null: no deadline. When it throws, there is none. Default null.</summary>
    public Func<TimeSpan?>? TimeLeft { get; set; }

    /// <summary>Who asks, such as the tenant of the message: keys of different subjects never meet. Asked for each call of <c>ExecuteAsync</c>. Default null: nobody in particular.</summary>
    public Func<string>? Subject { get; set; }

    /// <summary>
    /// An outage of the store: true: the request fails with <see cref="IdempotencyStoreException"/>; false: it runs without protection, which the metric tells. Default true.
    /// </summary>
    public bool StoreRequired { get; set; } = true;

    /// <summary>A key that is a UUID of version 7 and older than <see cref="Retention"/> is refused, not run afresh. Default true.</summary>
    public bool RefuseExpiredKeys { get; set; } = true;

    /// <summary>Keys the hashes under which keys are stored. At least 16 characters, the same on all nodes. Default null: plain SHA-256.</summary>
    public string? Secret { get; set; }

    /// <summary>
    /// A second secret whose records are still found, or already found, while the secret is being rotated; the empty string: records without a secret. New records are
    /// written under <see cref="Secret"/>. All nodes must know both before the first one writes under the new one, and for twice
    /// <see cref="Retention"/> after that: a record that is taken over stays under the old one. Default null: there is none.
    /// </summary>
    public string? PreviousSecret { get; set; }

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (Lease < ShortestLease || Lease > LongestLease)
        {
            yield return this.Problem(nameof(Lease), "between 00:00:00.1000000 and 1.00:00:00", Lease);
        }

        if (Retention < Lease || Retention > LongestRetention || Retention <= TimeSpan.Zero)
        {
            yield return this.Problem(nameof(Retention), ValidOptions.Invariant($"between Lease ({Lease}) and 365.00:00:00"), Retention);
        }

        if (MaxOutcomeBytes is < 0 or > 16 * 1024 * 1024)
        {
            yield return this.Problem(nameof(MaxOutcomeBytes), "between 0 and 16777216", MaxOutcomeBytes);
        }

        if (!Enum.IsDefined(Duplicates))
        {
            yield return this.Problem(nameof(Duplicates), "Reject or WaitAndReplay", Duplicates);
        }

        if (!Enum.IsDefined(DuplicatesInTransaction))
        {
            yield return this.Problem(nameof(DuplicatesInTransaction), "Reject or WaitAndReplay", DuplicatesInTransaction);
        }

        if (MaxWait <= TimeSpan.Zero || MaxWait > LongestWait)
        {
            yield return this.Problem(nameof(MaxWait), "greater than 0 and at most 01:00:00", MaxWait);
        }

        // The value of a secret is told to nobody.
        if (Secret is { Length: < ShortestSecret })
        {
            yield return this.Problem(nameof(Secret), "null or at least 16 characters", ValidOptions.Invariant($"{Secret.Length} characters"));
        }

        if (PreviousSecret is { Length: > 0 and < ShortestSecret })
        {
            yield return this.Problem(nameof(PreviousSecret), "null, empty or at least 16 characters", ValidOptions.Invariant($"{PreviousSecret.Length} characters"));
        }

        if (PreviousSecret is not null && PreviousSecret == (Secret ?? ""))
        {
            yield return this.Problem(nameof(PreviousSecret), "another than Secret", "the same");
        }
    }
}
