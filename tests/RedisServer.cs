using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using StackExchange.Redis;

namespace Backend.Toolkit.Tests;

/// <summary>
/// A Redis server of its own on a free loopback port, in memory. It can be paused, killed and started again, empty, on the same port; it ends with the fixture. The environment variable
/// <c>BACKEND_TOOLKIT_REDIS</c> names another one, which is never paused or killed. Without a binary tests are skipped, but fail where <c>CI</c> is true.
/// </summary>
public sealed class RedisServer : IAsyncDisposable
{
    /// <summary>How xunit is told to skip by who does not refer to it.</summary>
    private const string Skip = "$XunitDynamicSkip$";

    private readonly string? _external = Environment.GetEnvironmentVariable("BACKEND_TOOLKIT_REDIS");
    private Process? _process;

    private RedisServer(int port) => Port = port;

    public int Port { get; }

    public string ConnectionString => _external ?? $"127.0.0.1:{Port},abortConnect=false,connectTimeout=2000,allowAdmin=true";

    public static async Task<RedisServer> StartAsync(params string[] arguments)
    {
        var server = new RedisServer(FreePort());
        await server.RestartAsync(arguments);
        return server;
    }

    public async Task<ConnectionMultiplexer> ConnectAsync(string further = "")
    {
        ConnectionMultiplexer connection = await ConnectionMultiplexer.ConnectAsync(ConnectionString + further);
        await WaitUntilAsync(() => connection.IsConnected, "the client is connected");
        return connection;
    }

    /// <summary>Starts it, empty.</summary>
    public async Task RestartAsync(params string[] arguments)
    {
        if (_external is not null)
        {
            return;
        }

        string? binary = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Append("/usr/bin").Select(folder => Path.Combine(folder, "redis-server")).FirstOrDefault(File.Exists);
        if (binary is null)
        {
            string skip = Environment.GetEnvironmentVariable("CI") == "true" ? "" : Skip;
            throw new InvalidOperationException($"{skip}redis-server is not installed; tests/run.sh installs it (Debian: apt-get install redis-server).");
        }

        _process = Process.Start(new ProcessStartInfo(binary, ["--port", $"{Port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", Path.GetTempPath(), .. arguments]) { RedirectStandardOutput = true })!;
        _process.OutputDataReceived += static (_, _) => { };
        _process.BeginOutputReadLine();
        await WaitUntilAsync(IsListening, $"redis-server listens on port {Port}");
    }

    /// <summary>SIGKILL.</summary>
    public void Kill()
    {
        SkipIfExternal();
        _process!.Kill();
        _process.WaitForExit();
        _process.Dispose();
        _process = null;
    }

    /// <summary>SIGSTOP: connections stay, nothing answers.</summary>
    public void Pause() => Signal("STOP");

    public void Resume() => Signal("CONT");

    /// <summary>Looks every few milliseconds, for at most 20 s.</summary>
    public static async Task WaitUntilAsync(Func<bool> condition, string what)
    {
        long start = TimeProvider.System.GetTimestamp();
        while (!condition())
        {
            if (TimeProvider.System.GetElapsedTime(start) > TimeSpan.FromSeconds(20))
            {
                throw new TimeoutException($"Waited 20 s until {what}.");
            }

            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
        }
    }

    public static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    public ValueTask DisposeAsync()
    {
        if (_process is not null)
        {
            Kill();
        }

        return ValueTask.CompletedTask;
    }

    private bool IsListening()
    {
        using var client = new TcpClient();
        try
        {
            client.Connect(IPAddress.Loopback, Port);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private void Signal(string signal)
    {
        SkipIfExternal();
        using var kill = Process.Start("kill", [$"-{signal}", $"{_process!.Id}"]);
        kill.WaitForExit();
    }

    private void SkipIfExternal()
    {
        if (_external is not null)
        {
            throw new InvalidOperationException($"{Skip}The server of BACKEND_TOOLKIT_REDIS is not stopped.");
        }
    }
}
