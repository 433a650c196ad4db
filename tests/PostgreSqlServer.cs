using Npgsql;

/// <summary>
/// The PostgreSQL of a test assembly: a <see cref="PostgreSqlCluster"/>, or what the environment variable <c>BACKEND_TOOLKIT_POSTGRES</c> (a connection string) names. Where there is neither, the tests that ask
/// for it skip, and fail when <c>CI=true</c>. Projects link both files and say <c>[assembly: AssemblyFixture(typeof(PostgreSqlServer))]</c>.
/// </summary>
public sealed class PostgreSqlServer : IAsyncLifetime
{
    private const string Missing = "PostgreSQL is not installed (Debian: apt-get install postgresql), and BACKEND_TOOLKIT_POSTGRES is not set";

    private PostgreSqlCluster? _cluster;
    private string? _connectionString;

    /// <summary>Whether there is a server; fixtures ask this, since only a test can skip.</summary>
    public bool IsAvailable => _connectionString is not null;

    public async ValueTask InitializeAsync()
    {
        _connectionString = Environment.GetEnvironmentVariable("BACKEND_TOOLKIT_POSTGRES");
        if (string.IsNullOrEmpty(_connectionString))
        {
            _cluster = await PostgreSqlCluster.StartAsync();
            _connectionString = _cluster?.ConnectionString;
        }
    }

    /// <summary>A connection string, or the end of the test.</summary>
    public string ConnectionString()
    {
        if (_connectionString is null)
        {
            Assert.SkipUnless(Environment.GetEnvironmentVariable("CI") == "true", Missing);
            Assert.Fail(Missing);
        }

        return _connectionString;
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
        if (_cluster is not null)
        {
            await _cluster.DisposeAsync();
        }
    }
}
