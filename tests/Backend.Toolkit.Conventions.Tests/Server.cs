using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>A web server in a process of its own, on a free loopback port. It ends with its owner. The one place that lets real time pass.</summary>
internal sealed class Server : IAsyncDisposable
{
    private static TimeSpan Limit { get; } = TimeSpan.FromMinutes(1);

    private readonly Process _process;
    private readonly ConcurrentQueue<string> _output = new();

    private Server(string program, IEnumerable<string> arguments)
    {
        using (var listener = new TcpListener(IPAddress.Loopback, 0))
        {
            listener.Start();
            Address = new Uri($"http://127.0.0.1:{((IPEndPoint)listener.LocalEndpoint).Port}");
        }

        var start = new ProcessStartInfo(program, [.. arguments, "--urls", Address.OriginalString]) { RedirectStandardOutput = true, RedirectStandardError = true };
        long begun = TimeProvider.System.GetTimestamp();
        _process = Process.Start(start) ?? throw new InvalidOperationException($"Not started: {program}");
        Begun = begun;
        _process.OutputDataReceived += (_, line) => _output.Enqueue(line.Data ?? "");
        _process.ErrorDataReceived += (_, line) => _output.Enqueue(line.Data ?? "");
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        Client = new HttpClient { BaseAddress = Address, Timeout = Limit };
    }

    public Uri Address { get; }

    public HttpClient Client { get; }

    /// <summary>From the start of the process to the first answer.</summary>
    public TimeSpan StartUp { get; private set; }

    private long Begun { get; }

    private string Output => string.Join('\n', _output);

    /// <summary>Starts it and asks until it answers.</summary>
    public static async Task<Server> StartAsync(string program, params IEnumerable<string> arguments)
    {
        var server = new Server(program, arguments);
        try
        {
            await UntilAsync(server.AnswersAsync, () => $"{program} answers at {server.Address}:\n{server.Output}");
            server.StartUp = TimeProvider.System.GetElapsedTime(server.Begun);
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Starts what cannot start.</summary>
    /// <returns>Its exit code and all that it printed.</returns>
    public static async Task<(int ExitCode, string Output)> FailAsync(string program, params IEnumerable<string> arguments)
    {
        await using var server = new Server(program, arguments);
        await server._process.WaitForExitAsync().WaitAsync(Limit, TimeProvider.System);
        return (server._process.ExitCode, server.Output);
    }

    public static async Task UntilAsync(Func<Task<bool>> condition, Func<string> what)
    {
        long start = TimeProvider.System.GetTimestamp();
        while (!await condition())
        {
            if (TimeProvider.System.GetElapsedTime(start) > Limit)
            {
                throw new TimeoutException($"Waited {Limit} in vain: {what()}");
            }

            await Task.Delay(TimeSpan.FromMilliseconds(1), TimeProvider.System);
        }
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        _process.Kill(entireProcessTree: true);
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    private async Task<bool> AnswersAsync()
    {
        if (_process.HasExited)
        {
            await _process.WaitForExitAsync();
            throw new InvalidOperationException($"Exit code {_process.ExitCode}:\n{Output}");
        }

        try
        {
            using HttpResponseMessage answer = await Client.GetAsync(new Uri("/", UriKind.Relative));
            return true;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }
}
