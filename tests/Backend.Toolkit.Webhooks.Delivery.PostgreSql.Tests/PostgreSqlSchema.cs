using Npgsql;

[assembly: AssemblyFixture(typeof(PostgreSqlServer))]

/// <summary>A schema of one's own on the server of the assembly.</summary>
internal sealed class PostgreSqlSchema : IAsyncDisposable
{
    private PostgreSqlSchema(string connectionString) => ConnectionString = connectionString;

    public string ConnectionString { get; }

    public NpgsqlDataSource Source { get; private set; } = null!;

    public static async Task<PostgreSqlSchema> CreateAsync(PostgreSqlServer server)
    {
        string name = $"hooks_{Guid.NewGuid():N}";
        await using NpgsqlConnection connection = await server.ConnectAsync();
        await using var command = new NpgsqlCommand($"CREATE SCHEMA {name}", connection);
        await command.ExecuteNonQueryAsync();
        var schema = new PostgreSqlSchema($"{server.ConnectionString()};Search Path={name};Maximum Pool Size=20");
        schema.Source = NpgsqlDataSource.Create(schema.ConnectionString);
        return schema;
    }

    public ValueTask DisposeAsync() => Source.DisposeAsync();
}
