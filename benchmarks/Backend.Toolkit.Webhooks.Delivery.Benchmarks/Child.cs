using System.Diagnostics;

/// <summary>This program once more, as another process, which prints a line when it is ready, and is ended with this one.</summary>
internal sealed class Child : IDisposable
{
    private readonly Process _process;

    private Child(Process process, string line) => (_process, Line) = (process, line);

    public string Line { get; }

    public static async Task<Child> StartAsync(params string[] arguments)
    {
        Process process = Process.Start(new ProcessStartInfo(Environment.ProcessPath!, arguments) { RedirectStandardOutput = true })!;
        return new Child(process, await process.StandardOutput.ReadLineAsync() ?? throw new InvalidOperationException($"{arguments[0]} ended."));
    }

    public void Dispose()
    {
        _process.Kill();
        _process.Dispose();
    }
}
