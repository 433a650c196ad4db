using Microsoft.Data.Sqlite;

/// <summary>A database file of one's own, gone afterwards.</summary>
internal sealed class SqliteDatabase : IDisposable
{
    public string File { get; } = Path.Combine(Path.GetTempPath(), $"backend-toolkit-webhooks-{Guid.NewGuid():N}.db");

    public string ConnectionString => $"Data Source={File}";

    public void Dispose()
    {
        using (var connection = new SqliteConnection(ConnectionString))
        {
            SqliteConnection.ClearPool(connection);
        }

        foreach (string suffix in new[] { "", "-wal", "-shm" })
        {
            System.IO.File.Delete(File + suffix);
        }
    }
}
