using System.Diagnostics;
using System.Globalization;
using Backend.Toolkit.Tests;

namespace Backend.Toolkit.RateLimiting.Redis.Tests;

/// <summary>Several processes against one limit.</summary>
public sealed class ProcessTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(50)]
    public async Task Processes_together_admit_what_the_limit_says_and_use_it(int lease)
    {
        const int Nodes = 3, Rate = 1000, Burst = 500, Milliseconds = 8000;
        await using RedisServer server = await RedisServer.StartAsync();
        await using var connection = await server.ConnectAsync();
        Process[] nodes = [.. Enumerable.Range(0, Nodes).Select(_ => Process.Start(new ProcessStartInfo(
            Environment.ProcessPath!, ["node", server.ConnectionString, $"{Rate}", $"{Burst}", $"{lease}", $"{Nodes}", $"{Milliseconds}"]) { RedirectStandardInput = true, RedirectStandardOutput = true })!)];
        try
        {
            foreach (Process node in nodes)
            {
                (await node.StandardOutput.ReadLineAsync()).Should().Be("ready");
            }

            long start = TimeProvider.System.GetTimestamp();
            Array.ForEach(nodes, node => node.StandardInput.WriteLine());
            int admitted = 0;
            foreach (Process node in nodes)
            {
                string count = (await node.StandardOutput.ReadLineAsync())!;
                admitted += int.Parse(count, CultureInfo.InvariantCulture);
            }

            double seconds = TimeProvider.System.GetElapsedTime(start).TotalSeconds;
            admitted.Should().BeLessThanOrEqualTo((int)Math.Ceiling(Burst + (Rate * seconds) + (Nodes * lease)));
            admitted.Should().BeGreaterThanOrEqualTo((int)(0.95 * (Burst + (Rate * Milliseconds / 1000.0))), $"they had {seconds:F2} s in all");
        }
        finally
        {
            foreach (Process node in nodes)
            {
                node.Kill();
                node.Dispose();
            }
        }
    }
}
