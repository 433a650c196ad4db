using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Npgsql;

/// <summary>A PostgreSQL of one's own: a new cluster in a temporary folder, on a free loopback port, gone afterwards. Linked into the projects that need one.</summary>
internal sealed class PostgreSqlCluster : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly string _folder = Path.Combine(Path.GetTempPath(), $"backend-toolkit-postgres-{Guid.NewGuid():N}");
    private ProcessStartInfo? _start;
    private Process? _server;

    private PostgreSqlCluster()
    {
    }

    public string ConnectionString { get; private set; } = "";

    /// <param name="settings">More of them, such as <c>max_connections=200</c>.</param>
    /// <returns>Null: PostgreSQL is not installed.</returns>
    public static async Task<PostgreSqlCluster?> StartAsync(params string[] settings)
    {
        if (Programs() is not string programs)
        {
            return null;
        }

        var cluster = new PostgreSqlCluster();
        try
        {
            await cluster.StartAsync(programs, settings);
            return cluster;
        }
        catch
        {
            await cluster.DisposeAsync();
            throw;
        }
    }

    /// <summary>Ends the server; <see cref="RestartAsync"/> starts it again on the same port, with the same data.</summary>
    public async Task StopAsync()
    {
        // An interrupt ends it fast and in order; after that, patience ends.
        if (!_server!.HasExited)
        {
            await RunAsync(new ProcessStartInfo("kill", ["-INT", _server.Id.ToString(CultureInfo.InvariantCulture)]));
        }

        using var limit = new CancellationTokenSource(Patience, TimeProvider.System);
        try
        {
            await _server.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            Kill(null, EventArgs.Empty);
        }

        _server.Dispose();
        _server = null;
    }

    public async Task RestartAsync()
    {
        _server = Process.Start(_start!)!;
        await WaitUntilReadyAsync(ConnectionString);
    }

    public async ValueTask DisposeAsync()
    {
        AppDomain.CurrentDomain.ProcessExit -= Kill;
        if (_server is not null)
        {
            NpgsqlConnection.ClearAllPools();
            await StopAsync();
        }

        if (Directory.Exists(_folder))
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    private async Task StartAsync(string programs, string[] settings)
    {
        Directory.CreateDirectory(_folder);
        if (IsRoot())
        {
            await RunAsync(new ProcessStartInfo("chown", ["postgres", _folder]));
        }

        string data = Path.Combine(_folder, "data");
        await RunAsOwnerAsync(Path.Combine(programs, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync");
        int port = FreePort();
        string number = port.ToString(CultureInfo.InvariantCulture);
        _start = AsOwner([
            Path.Combine(programs, "postgres"), "-D", data, "-p", number, "-h", "127.0.0.1", "-k", _folder, "-F", "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB", "-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "autovacuum=off", "-c", "log_min_messages=panic", .. settings.SelectMany(setting => (string[])["-c", setting])]);
        _server = Process.Start(_start)!;
        AppDomain.CurrentDomain.ProcessExit += Kill;
        ConnectionString = $"Host=127.0.0.1;Port={number};Username=postgres;Database=postgres;Timeout=10";
        await WaitUntilReadyAsync(ConnectionString);
    }

    private void Kill(object? sender, EventArgs e)
    {
        if (_server is { HasExited: false })
        {
            _server.Kill(entireProcessTree: true);
        }
    }

    /// <summary>The newest that is installed.</summary>
    private static string? Programs() => !Directory.Exists("/usr/lib/postgresql") ? null : Directory.EnumerateDirectories("/usr/lib/postgresql")
        .Where(version => File.Exists(Path.Combine(version, "bin", "initdb")))
        .OrderByDescending(version => double.TryParse(Path.GetFileName(version), CultureInfo.InvariantCulture, out double number) ? number : 0)
        .Select(version => Path.Combine(version, "bin"))
        .FirstOrDefault();

    private static bool IsRoot() => Environment.UserName == "root";

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private async Task WaitUntilReadyAsync(string connectionString)
    {
        using var limit = new CancellationTokenSource(Patience, TimeProvider.System);
        while (true)
        {
            try
            {
                await using var connection = new NpgsqlConnection(connectionString + ";Pooling=false");
                await connection.OpenAsync(limit.Token);
                return;
            }
            catch (Exception exception) when (exception is NpgsqlException or SocketException && !_server!.HasExited)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, limit.Token);
            }
        }
    }

    /// <summary>PostgreSQL refuses to run as root.</summary>
    private ProcessStartInfo AsOwner(params string[] line) => new(
        IsRoot() ? "setpriv" : line[0],
        IsRoot() ? ["--reuid=postgres", "--regid=postgres", "--init-groups", .. line] : line[1..])
    { WorkingDirectory = _folder };

    private Task RunAsOwnerAsync(params string[] line) => RunAsync(AsOwner(line));

    private static async Task RunAsync(ProcessStartInfo start)
    {
        start.RedirectStandardOutput = true;
        start.RedirectStandardError = true;
        using Process process = Process.Start(start)!;
        using var limit = new CancellationTokenSource(Patience, TimeProvider.System);
        Task<string> output = process.StandardOutput.ReadToEndAsync(limit.Token);
        string error = await process.StandardError.ReadToEndAsync(limit.Token);
        await process.WaitForExitAsync(limit.Token);
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"{start.FileName} ended with {process.ExitCode}: {await output}{error}");
        }
    }
}
