using System.Diagnostics.Metrics;

namespace Backend.Toolkit.Pagination;

/// <summary>The meter <c>Backend.Toolkit.Pagination</c>. Labels: the name of the paginator, and why a cursor was refused.</summary>
internal static class Telemetry
{
    private static Meter Meter { get; } = new("Backend.Toolkit.Pagination");

    private static Counter<long> Refused { get; } = Meter.CreateCounter<long>("backend.toolkit.pagination.cursors.refused", "{cursor}", "Cursors refused, by reason.");

    public static void CursorRefused(string name, InvalidCursorReason reason)
    {
        try
        {
            if (!Refused.Enabled)
            {
                return;
            }

            Refused.Add(1, new KeyValuePair<string, object?>("name", name), new KeyValuePair<string, object?>("reason", Text(reason)));
        }
        catch (Exception)
        {
            // A listener that throws, be it when it hears of the meter, must not replace the refusal; nobody but it can mend that.
        }
    }

    private static string Text(InvalidCursorReason reason) => reason switch
    {
        InvalidCursorReason.Malformed => "malformed",
        InvalidCursorReason.TooLong => "too_long",
        InvalidCursorReason.UnknownKey => "unknown_key",
        InvalidCursorReason.Altered => "altered",
        InvalidCursorReason.Foreign => "foreign",
        _ => "expired",
    };
}
