using Npgsql;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

/// <summary>The common server, and one data source for all tests on it, so that they do not take more connections than it has.</summary>
public sealed class Database : IAsyncLifetime
{
    private readonly PostgreSqlServer _server = new();
    private readonly Lazy<NpgsqlDataSource> _source;

    public Database() => _source = new Lazy<NpgsqlDataSource>(() =>
    {
        var source = NpgsqlDataSource.Create($"{ConnectionString};Maximum Pool Size=70;Timeout=60");
        using NpgsqlCommand command = source.CreateCommand("CREATE TABLE IF NOT EXISTS effects (name text NOT NULL)");
        command.ExecuteNonQuery();
        return source;
    });

    /// <summary>Or the end of the test.</summary>
    public string ConnectionString => _server.ConnectionString();

    public NpgsqlDataSource Source => _source.Value;

    /// <summary>A store with a table of its own.</summary>
    public PostgreSqlIdempotencyStore CreateStore(Action<PostgreSqlIdempotencyStoreOptions>? configure = null, TimeProvider? time = null) => Stores.Create(Source, configure, time);

    public ValueTask InitializeAsync() => _server.InitializeAsync();

    public async ValueTask DisposeAsync()
    {
        if (_source.IsValueCreated)
        {
            await _source.Value.DisposeAsync();
        }

        await _server.DisposeAsync();
    }
}
