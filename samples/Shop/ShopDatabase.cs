using System.Data;
using System.Data.Common;
using Backend.Toolkit.Pagination;
using Microsoft.AspNetCore.DataProtection;
using Microsoft.Data.Sqlite;
using Npgsql;

namespace Shop;

/// <summary>SQLite in a folder, which is a temporary one unless the shop is given one; or PostgreSQL, which several shops may share.</summary>
internal sealed class ShopDatabase : IDisposable
{
    private readonly string? _temporary;

    public ShopDatabase(string? folder, string? postgres)
    {
        _temporary = folder is null ? Directory.CreateTempSubdirectory("shop-").FullName : null;
        Folder = _temporary ?? Directory.CreateDirectory(folder!).FullName;
        try
        {
            IsPostgreSql = postgres is not null;
            ConnectionString = postgres ?? new SqliteConnectionStringBuilder { DataSource = Path.Combine(Folder, "orders.db") }.ToString();
            Source = IsPostgreSql ? NpgsqlDataSource.Create(ConnectionString) : SqliteFactory.Instance.CreateDataSource(ConnectionString);
            CreateTables();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Where files of this shop may be.</summary>
    public string Folder { get; }

    public bool IsPostgreSql { get; }

    public string ConnectionString { get; }

    public DbDataSource Source { get; }

    public SqlDialect Dialect => IsPostgreSql ? SqlDialect.PostgreSql : SqlDialect.Sqlite;

    /// <summary>Whether the data outlives the shop. Then a commit waits for the disk.</summary>
    public bool IsKept => IsPostgreSql || _temporary is null;

    /// <summary>A connection that is opened later.</summary>
    public DbConnection Connect()
    {
        DbConnection connection = Source.CreateConnection();
        if (!IsPostgreSql)
        {
            connection.StateChange += (sender, change) =>
            {
                if (change.CurrentState == ConnectionState.Open)
                {
                    // SQLite's own patience comes back sooner than that of the driver.
                    using DbCommand command = ((DbConnection)sender).CreateCommand();
                    command.CommandText = $"PRAGMA busy_timeout = 2000; PRAGMA synchronous = {(IsKept ? "FULL" : "NORMAL")}";
                    command.ExecuteNonQuery();
                }
            };
        }

        return connection;
    }

    /// <summary>A connection to an SQLite of payments or the customer.</summary>
    public static SqliteConnection Open(string connectionString)
    {
        var connection = new SqliteConnection(connectionString);
        connection.Open();
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = "PRAGMA busy_timeout = 2000; PRAGMA synchronous = NORMAL";
        command.ExecuteNonQuery();
        return connection;
    }

    /// <summary>Shops that share the database do it one after the other.</summary>
    public async Task OneByOneAsync(Func<Task> work, CancellationToken cancellationToken)
    {
        if (!IsPostgreSql)
        {
            await work();
            return;
        }

        await using DbConnection connection = await Source.OpenConnectionAsync(cancellationToken);
        await using DbTransaction transaction = await connection.BeginTransactionAsync(cancellationToken);
        await using DbCommand command = connection.CreateCommand();
        command.CommandText = "SELECT pg_advisory_xact_lock(5080)";
        await command.ExecuteNonQueryAsync(cancellationToken);
        await work();
    }

    /// <summary>How secrets of endpoints are kept: under keys in the folder.</summary>
    public (Func<string, string> Protect, Func<string, string> Unprotect) Protection()
    {
        IDataProtector protector = DataProtectionProvider.Create(new DirectoryInfo(Path.Combine(Folder, "keys"))).CreateProtector("webhooks");
        return (protector.Protect, protector.Unprotect);
    }

    public void Dispose()
    {
        Source?.Dispose();
        if (_temporary is not null)
        {
            SqliteConnection.ClearAllPools();
            Directory.Delete(_temporary, recursive: true);
        }
    }

    private void CreateTables()
    {
        (string uuid, string time) = IsPostgreSql ? ("uuid", "timestamptz") : ("TEXT", "TEXT");
        using DbCommand command = Source.CreateCommand($"""
            {(IsPostgreSql ? "SELECT pg_advisory_xact_lock(5080)" : "PRAGMA journal_mode = WAL")};
            CREATE TABLE IF NOT EXISTS orders (id {uuid} NOT NULL PRIMARY KEY, item TEXT NOT NULL, cents INTEGER NOT NULL, status INTEGER NOT NULL, placed_at {time} NOT NULL);
            CREATE INDEX IF NOT EXISTS orders_by_age ON orders (placed_at, id);
            CREATE INDEX IF NOT EXISTS orders_by_status ON orders (status, placed_at, id);
            """);
        command.ExecuteNonQuery();
    }
}
