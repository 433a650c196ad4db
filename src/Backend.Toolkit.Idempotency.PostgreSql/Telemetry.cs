using System.Diagnostics.Metrics;

namespace Backend.Toolkit.Idempotency.PostgreSql;

/// <summary>The meter <c>Backend.Toolkit.Idempotency.PostgreSql</c>. Label: the name of the store; never a key.</summary>
internal static class Telemetry
{
    private static Meter Meter { get; } = new("Backend.Toolkit.Idempotency.PostgreSql");

    private static Counter<long> Deletions { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.idempotency.postgresql.deleted", "{record}", "Expired records that this node deleted.");

    public static void Deleted(string name, int records)
    {
        if (Deletions.Enabled)
        {
            try
            {
                Deletions.Add(records, new KeyValuePair<string, object?>("name", name));
            }
            catch (Exception)
            {
                // A listener that throws must not end the cleanup; nobody but the listener can mend it.
            }
        }
    }
}
