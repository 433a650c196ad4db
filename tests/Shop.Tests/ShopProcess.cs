using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;

namespace Shop.Tests;

/// <summary>The program in a process of its own, that can be killed. Linked into the soak, too.</summary>
internal sealed partial class ShopProcess : IAsyncDisposable
{
    private readonly Process _process;
    private readonly ConcurrentDictionary<string, Uri> _addresses = new();
    private readonly ConcurrentQueue<string> _errors = new();
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private ShopProcess(string[] arguments)
    {
        string[] oneLineEach = ["--Logging:Console:FormatterName=simple", "--Logging:Console:FormatterOptions:SingleLine=true"];
        _process = Process.Start(new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "Shop.dll"), .. arguments, .. oneLineEach])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        _process.OutputDataReceived += (_, e) => Read(e.Data ?? "");
        _process.ErrorDataReceived += (_, e) => Complain(e.Data ?? "");
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    /// <summary>What it wrote to standard error, and what it logged as an error; the first hundred lines.</summary>
    public IReadOnlyCollection<string> Errors => _errors;

    public bool HasExited => _process.HasExited;

    /// <summary>Starts it, and waits until it listens.</summary>
    public static async Task<ShopProcess> StartAsync(params string[] arguments)
    {
        var shop = new ShopProcess(arguments);
        Task ended = shop._process.WaitForExitAsync();
        await Task.WhenAny(shop._ready.Task, ended).WaitAsync(TimeSpan.FromMinutes(2), TimeProvider.System);
        return shop._ready.Task.IsCompleted ? shop : throw new InvalidOperationException($"It did not start: {string.Join('\n', shop.Errors)}");
    }

    /// <param name="name">shop, payments or customer.</param>
    public Uri Address(string name) => _addresses[name];

    /// <summary>SIGKILL.</summary>
    public async Task KillAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (!HasExited)
        {
            await KillAsync();
        }

        _process.Dispose();
    }

    /// <summary>A port for one who is killed and comes back: none of those that the system gives to others meanwhile.</summary>
    public static int LastingPort()
    {
        while (true)
        {
            try
            {
                using var listener = new TcpListener(IPAddress.Loopback, Random.Shared.Next(20_000, 32_000));
                listener.Start();
                return ((IPEndPoint)listener.LocalEndpoint).Port;
            }
            catch (SocketException)
            {
                // Taken.
            }
        }
    }

    private void Read(string line)
    {
        if (Address().Match(line) is { Success: true } match)
        {
            _addresses[match.Groups[1].Value] = new Uri(match.Groups[2].Value);
        }
        else if (line.StartsWith("fail:", StringComparison.Ordinal) || line.StartsWith("crit:", StringComparison.Ordinal))
        {
            Complain(line);
        }
        else if (line.StartsWith("Ctrl-C", StringComparison.Ordinal))
        {
            _ready.TrySetResult();
        }
    }

    private void Complain(string line)
    {
        if (line.Length > 0 && _errors.Count < 100)
        {
            _errors.Enqueue(line);
        }
    }

    [GeneratedRegex("^(shop|payments|customer) +(http://[^ ]+)")]
    private static partial Regex Address();
}
