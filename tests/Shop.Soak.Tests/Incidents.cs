using System.Net.Http.Json;
using Shop.Tests;

namespace Shop.Soak.Tests;

/// <summary>Payments and the customer get into trouble and out of it, at random.</summary>
internal sealed class Incidents(Uri payments, Uri customer, Random random)
{
    private static readonly object[] Faults =
    [
        new { mode = "healthy" },
        new { mode = "healthy" },
        new { mode = "slow", delayMs = 300 },
        new { mode = "slow", ratio = 0.5, delayMs = 1500 },
        new { mode = "failing", ratio = 0.3 },
        new { mode = "failing" },
        new { mode = "hanging", ratio = 0.3 },
        new { mode = "hanging" },
    ];

    private readonly HttpClient _client = new(new SocketsHttpHandler { PooledConnectionIdleTimeout = TimeSpan.FromSeconds(1) }) { Timeout = TimeSpan.FromSeconds(30) };

    public int Count { get; private set; }

    /// <summary>One after the other until it is cancelled; then all is well.</summary>
    public async Task PlayAsync(CancellationToken end)
    {
        while (!end.IsCancellationRequested)
        {
            await TellAsync(Faults[random.Next(Faults.Length)], isBroken: random.Next(4) == 0);
            Count++;
            await RealTime.PassAsync(TimeSpan.FromMilliseconds(random.Next(500, 4000)), end);
        }

        await TellAsync(Faults[0], isBroken: false);
    }

    private async Task TellAsync(object fault, bool isBroken)
    {
        using HttpResponseMessage told = await _client.PostAsJsonAsync(new Uri(payments, "faults"), fault);
        told.EnsureSuccessStatusCode();
        using HttpResponseMessage broken = await _client.PostAsync(new Uri(customer, $"broken?value={isBroken}"), null);
        broken.EnsureSuccessStatusCode();
    }
}
