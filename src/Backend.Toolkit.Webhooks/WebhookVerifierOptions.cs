namespace Backend.Toolkit.Webhooks;

/// <summary>Options of a <see cref="WebhookVerifier"/>.</summary>
public sealed class WebhookVerifierOptions : WebhookOptions
{
    private static TimeSpan Shortest { get; } = TimeSpan.FromSeconds(1);

    private static TimeSpan Longest { get; } = TimeSpan.FromDays(1);

    /// <summary>How far a timestamp may be from now, in the past and in the future; whole seconds count. 1 s to 1 day; default 300 s. Without meaning where the scheme signs no timestamp.</summary>
    public TimeSpan Tolerance { get; set; } = TimeSpan.FromSeconds(300);

    internal override bool Signs => false;

    /// <inheritdoc/>
    public override IEnumerable<string> Problems()
    {
        foreach (string problem in base.Problems())
        {
            yield return problem;
        }

        if (Tolerance < Shortest || Tolerance > Longest)
        {
            yield return this.Problem(nameof(Tolerance), "between 00:00:01 and 1.00:00:00", Tolerance);
        }
    }
}
