using System.Runtime.CompilerServices;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

/// <summary>The whole assembly runs with a proxy in its environment, which is read once: no attempt of any test may go there.</summary>
internal static class Proxies
{
    public static Loopback Canary { get; } = Loopback.Answering("200 OK");

    [ModuleInitializer]
    internal static void Set()
    {
        foreach (string name in new[] { "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY" })
        {
            Environment.SetEnvironmentVariable(name, $"http://127.0.0.1:{Canary.Port}");
        }

        Environment.SetEnvironmentVariable("no_proxy", null);
        Environment.SetEnvironmentVariable("NO_PROXY", null);
    }
}
