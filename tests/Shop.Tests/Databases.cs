using Backend.Toolkit.Tests;
using Npgsql;

namespace Shop.Tests;

internal static class Databases
{
    /// <summary>An empty database of a shop's own.</summary>
    public static async Task<string> NewDatabaseAsync(this PostgreSqlServer postgreSql)
    {
        string name = $"shop_{Guid.NewGuid():N}";
        await using NpgsqlConnection connection = await postgreSql.ConnectAsync();
        await using var create = new NpgsqlCommand($"CREATE DATABASE {name}", connection);
        await create.ExecuteNonQueryAsync();
        return new NpgsqlConnectionStringBuilder(postgreSql.ConnectionString()) { Database = name, MaxPoolSize = 20 }.ToString();
    }
}
