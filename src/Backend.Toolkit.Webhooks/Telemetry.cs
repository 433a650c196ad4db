using System.Diagnostics.Metrics;

namespace Backend.Toolkit.Webhooks;

/// <summary>The meter <c>Backend.Toolkit.Webhooks</c>. Labels: the name of the verifier, signer or guard, and what was found; never an id.</summary>
internal static class Telemetry
{
    private static Meter Meter { get; } = new("Backend.Toolkit.Webhooks");

    private static Counter<long> VerifiedMessages { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.webhooks.verified", "{message}", "Messages that were verified, by result.");

    private static Counter<long> SignedMessages { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.webhooks.signed", "{message}", "Messages that were signed.");

    private static Counter<long> Reservations { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.webhooks.reservations", "{message}", "Verified messages that asked a replay guard, by its answer.");

    public static bool CountsVerified => VerifiedMessages.Enabled;

    public static bool CountsSigned => SignedMessages.Enabled;

    public static void Verified(string name, WebhookVerification result) => Add(VerifiedMessages, Tag("name", name), Tag("result", result switch
    {
        WebhookVerification.Valid => "valid",
        WebhookVerification.MissingHeader => "missing_header",
        WebhookVerification.Malformed => "malformed",
        WebhookVerification.Stale => "stale",
        WebhookVerification.FromFuture => "from_future",
        WebhookVerification.HeaderTooLarge => "header_too_large",
        WebhookVerification.NoKeyInForce => "no_key_in_force",
        _ => "bad_signature",
    }));

    public static void Signed(string name) => Add(SignedMessages, Tag("name", name));

    public static void Reserved(string name, WebhookReservationStatus status)
    {
        if (Reservations.Enabled)
        {
            Add(Reservations, Tag("name", name), Tag("result", status switch
            {
                WebhookReservationStatus.Reserved => "reserved",
                WebhookReservationStatus.Committed => "committed",
                WebhookReservationStatus.Full => "full",
                _ => "in_progress",
            }));
        }
    }

    /// <summary>A listener that throws must not replace the outcome of the call.</summary>
    private static void Add(Counter<long> counter, params ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        try
        {
            counter.Add(1, tags);
        }
        catch (Exception)
        {
            // Nobody but the listener can mend it.
        }
    }

    private static KeyValuePair<string, object?> Tag(string key, object value) => new(key, value);
}
