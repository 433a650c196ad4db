using System.Diagnostics.Metrics;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>The meter <c>Backend.Toolkit.Webhooks.AspNetCore</c>. Labels: the name of the verifier, and how the request ended; why a signature was refused is counted by the leaf's own meter.</summary>
internal static class Telemetry
{
    private static Meter Meter { get; } = new("Backend.Toolkit.Webhooks.AspNetCore");

    private static Counter<long> Requests { get; } = Meter.CreateCounter<long>(
        "backend.toolkit.webhooks.requests", "{request}", "Requests to endpoints that receive webhooks, by result.");

    public static void Ended(string name, string result)
    {
        if (Requests.Enabled)
        {
            try
            {
                Requests.Add(1, new("name", name), new("result", result));
            }
            catch (Exception)
            {
                // A listener that throws must not replace the answer.
            }
        }
    }
}
