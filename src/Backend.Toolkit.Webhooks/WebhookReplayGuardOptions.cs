namespace Backend.Toolkit.Webhooks;

/// <summary>Options of a <see cref="WebhookReplayGuard"/>.</summary>
public sealed class WebhookReplayGuardOptions : IValidOptions
{
    private static TimeSpan ShortestLease { get; } = TimeSpan.FromMilliseconds(100);

    private static TimeSpan LongestLease { get; } = TimeSpan.FromDays(1);

    private static TimeSpan LongestWindow { get; } = TimeSpan.FromDays(365);

    /// <summary>The label on metrics and in logs. Set by <c>AddWebhookReplayGuard</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>How long a reservation holds that is neither committed nor released: longer than a handler takes. 100 ms to 1 day; default 5 min.</summary>
    public TimeSpan Lease { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>
    /// How long a message is remembered whose sender's next attempt has the same key: its id is signed, or no time is. Others are remembered for twice the tolerance and a second. <see cref="Lease"/> to 365 days; default 80 h,
    /// as long as senders try.
    /// </summary>
    public TimeSpan RetryWindow { get; set; } = TimeSpan.FromHours(80);

    /// <summary>The most messages remembered in memory; full, it refuses new ones and forgets none. 1 to 100 000 000; default 100 000. Without meaning where there is a store.</summary>
    public int MaxKeys { get; set; } = 100_000;

    /// <summary>Where all nodes remember. Default null: in the memory of this process.</summary>
    public WebhookReplayStore? Store { get; set; }

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (Lease < ShortestLease || Lease > LongestLease)
        {
            yield return this.Problem(nameof(Lease), "between 00:00:00.1000000 and 1.00:00:00", Lease);
        }

        if (RetryWindow < Lease || RetryWindow > LongestWindow)
        {
            yield return this.Problem(nameof(RetryWindow), ValidOptions.Invariant($"between Lease ({Lease}) and 365.00:00:00"), RetryWindow);
        }

        if (MaxKeys is < 1 or > 100_000_000)
        {
            yield return this.Problem(nameof(MaxKeys), "between 1 and 100000000", MaxKeys);
        }

        // Not required members: code that the source generator of configuration writes could not make the store then, and would not compile.
        if (Store is not null && (Store.Reserve is null || Store.Commit is null || Store.Release is null))
        {
            yield return this.Problem(nameof(Store), "null or a store with Reserve, Commit and Release", "without one of them");
        }
    }
}
