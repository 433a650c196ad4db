using System.Diagnostics;
using System.Globalization;

namespace Backend.Toolkit.Idempotency.Processes.Tests;

/// <summary>A node, seen from the tests. It ends with this object, and with this process.</summary>
internal sealed class NodeProcess : IAsyncDisposable
{
    private readonly Process _process;

    private NodeProcess(Process process, Uri address, string name)
    {
        _process = process;
        Address = address;
        Name = name;
    }

    public Uri Address { get; }

    public string Name { get; }

    public static async Task<NodeProcess> StartAsync(NodeSettings settings)
    {
        Process process = Process.Start(new ProcessStartInfo("dotnet", [typeof(NodeProcess).Assembly.Location, .. settings.Arguments()])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        })!;
        string? address = await process.StandardOutput.ReadLineAsync().WaitAsync(TimeSpan.FromSeconds(60), TimeProvider.System);
        return new NodeProcess(process, new Uri(address ?? throw new InvalidOperationException($"The node {settings.Name} ended with {process.ExitCode} before it had begun.")), settings.Name);
    }

    /// <summary>SIGSTOP: it stands still and does not know.</summary>
    public void Stop() => Signal("STOP");

    /// <summary>SIGCONT.</summary>
    public void Continue() => Signal("CONT");

    /// <summary>SIGKILL.</summary>
    public void Kill() => _process.Kill();

    /// <returns>Whether it has ended by then.</returns>
    public async Task<bool> HasEndedWithinAsync(TimeSpan time)
    {
        using var limit = new CancellationTokenSource(time, TimeProvider.System);
        try
        {
            await _process.WaitForExitAsync(limit.Token);
            return true;
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    public async ValueTask DisposeAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    private void Signal(string name)
    {
        using Process kill = Process.Start("kill", ["-" + name, _process.Id.ToString(CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
    }
}
