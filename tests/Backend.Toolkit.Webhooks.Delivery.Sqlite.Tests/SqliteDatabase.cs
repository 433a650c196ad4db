using Microsoft.Data.Sqlite;

/// <summary>A database file of one's own, gone afterwards.</summary>
internal sealed class SqliteDatabase : IDisposable
{
    private readonly string _file = Path.Combine(Path.GetTempPath(), $"backend-toolkit-webhooks-{Guid.NewGuid():N}.db");

    public string ConnectionString => $"Data Source={_file}";

    public void Dispose()
    {
        using (var connection = new SqliteConnection(ConnectionString))
        {
            SqliteConnection.ClearPool(connection);
        }

        foreach (string suffix in new[] { "", "-wal", "-shm" })
        {
            File.Delete(_file + suffix);
        }
    }
}
