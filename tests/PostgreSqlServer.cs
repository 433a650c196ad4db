using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Npgsql;

/// <summary>
/// A PostgreSQL of the tests' own: a new cluster in a temporary folder, on a free loopback port, gone afterwards. The environment variable <c>BACKEND_TOOLKIT_POSTGRES</c> (a connection string) takes
/// its place. Where there is neither, the tests that ask for it skip, and fail when <c>CI=true</c>. Projects link this file and say <c>[assembly: AssemblyFixture(typeof(PostgreSqlServer))]</c>.
/// </summary>
public sealed class PostgreSqlServer : IAsyncLifetime
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly string _folder = Path.Combine(Path.GetTempPath(), $"backend-toolkit-postgres-{Guid.NewGuid():N}");
    private string? _connectionString;
    private string? _missing;
    private Process? _server;

    public async ValueTask InitializeAsync()
    {
        _connectionString = Environment.GetEnvironmentVariable("BACKEND_TOOLKIT_POSTGRES");
        if (!string.IsNullOrEmpty(_connectionString))
        {
            return;
        }

        string? programs = Programs();
        if (programs is null)
        {
            _missing = "PostgreSQL is not installed (Debian: apt-get install postgresql), and BACKEND_TOOLKIT_POSTGRES is not set";
            return;
        }

        Directory.CreateDirectory(_folder);
        if (IsRoot())
        {
            await RunAsync("chown", "postgres", _folder);
        }

        string data = Path.Combine(_folder, "data");
        await RunAsOwnerAsync(Path.Combine(programs, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync");
        int port = FreePort();
        string number = port.ToString(CultureInfo.InvariantCulture);
        _server = Process.Start(AsOwner(
            Path.Combine(programs, "postgres"), "-D", data, "-p", number, "-h", "127.0.0.1", "-k", _folder, "-F", "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB", "-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "autovacuum=off", "-c", "log_min_messages=panic"))!;
        AppDomain.CurrentDomain.ProcessExit += Kill;
        _connectionString = $"Host=127.0.0.1;Port={number};Username=postgres;Database=postgres;Timeout=10";
        await WaitUntilReadyAsync(_connectionString);
    }

    /// <summary>Whether there is a server; fixtures ask this, since only a test can skip.</summary>
    public bool IsAvailable => _missing is null;

    /// <summary>A connection string, or the end of the test.</summary>
    public string ConnectionString()
    {
        if (_missing is not null)
        {
            Assert.SkipUnless(Environment.GetEnvironmentVariable("CI") == "true", _missing);
            Assert.Fail(_missing);
        }

        return _connectionString!;
    }

    /// <summary>An open connection, whose temporary tables are its own.</summary>
    public async Task<NpgsqlConnection> ConnectAsync()
    {
        var connection = new NpgsqlConnection(ConnectionString());
        await connection.OpenAsync();
        return connection;
    }

    public async ValueTask DisposeAsync()
    {
        if (_server is not null)
        {
            NpgsqlConnection.ClearAllPools();

            // An interrupt ends it fast and in order; after that, patience ends.
            await RunAsync("kill", "-INT", _server.Id.ToString(CultureInfo.InvariantCulture));
            using var limit = new CancellationTokenSource(Patience, TimeProvider.System);
            try
            {
                await _server.WaitForExitAsync(limit.Token);
            }
            catch (OperationCanceledException)
            {
                Kill(null, EventArgs.Empty);
            }

            AppDomain.CurrentDomain.ProcessExit -= Kill;
            _server.Dispose();
        }

        if (Directory.Exists(_folder))
        {
            Directory.Delete(_folder, recursive: true);
        }
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
    private ProcessStartInfo AsOwner(string program, params string[] arguments) => new(
        IsRoot() ? "setpriv" : program,
        IsRoot() ? ["--reuid=postgres", "--regid=postgres", "--init-groups", program, .. arguments] : arguments) { WorkingDirectory = _folder };

    private Task RunAsOwnerAsync(string program, params string[] arguments) => RunAsync(AsOwner(program, arguments));

    private static Task RunAsync(string program, params string[] arguments) => RunAsync(new ProcessStartInfo(program, arguments));

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
