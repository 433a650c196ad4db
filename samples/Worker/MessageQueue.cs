using Microsoft.Data.Sqlite;

namespace Worker;

/// <param name="Row">Where it is in the queue.</param>
/// <param name="Receipt">Which of its deliveries this is: only the last one may end it.</param>
/// <param name="Count">How many deliveries have counted, with this one.</param>
/// <param name="Age">How long ago it was published.</param>
/// <param name="Id">Of the message: one that was published twice has two rows.</param>
/// <param name="Body">What was published.</param>
internal sealed record Delivery(long Row, long Receipt, int Count, TimeSpan Age, string Id, byte[] Body);

/// <param name="Id">Of the message.</param>
/// <param name="Reason">Of the last delivery's end.</param>
internal sealed record DeadLetter(string Id, string Reason);

/// <summary>
/// A queue in an SQLite file that delivers at least once, as the ones of the clouds do: what is taken is hidden until its time is over, and comes again unless it was
/// completed. It keeps whatever publishers send, duplicates too. Time is the file's (SQLite's clock), so several workers may share it.
/// </summary>
internal sealed class MessageQueue
{
    private readonly string _database;

    public MessageQueue(string file)
    {
        _database = new SqliteConnectionStringBuilder { DataSource = file }.ToString();
        using SqliteConnection connection = Open();
        using SqliteCommand create = Command(connection, """
            PRAGMA journal_mode = WAL;
            CREATE TABLE IF NOT EXISTS messages (
                row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, body BLOB NOT NULL,
                published_at REAL NOT NULL, visible_at REAL NOT NULL, receipt INTEGER NOT NULL DEFAULT 0, deliveries INTEGER NOT NULL DEFAULT 0) STRICT;
            CREATE INDEX IF NOT EXISTS messages_by_turn ON messages (visible_at, receipt, row);
            CREATE TABLE IF NOT EXISTS dead_letters (row INTEGER PRIMARY KEY, id TEXT NOT NULL, body BLOB NOT NULL, reason TEXT NOT NULL) STRICT;
            """);
        create.ExecuteNonQuery();
    }

    public async Task PublishAsync(IEnumerable<(string Id, byte[] Body)> messages)
    {
        using SqliteConnection connection = Open();
        using SqliteTransaction transaction = connection.BeginTransaction();
        foreach ((string id, byte[] body) in messages)
        {
            using SqliteCommand insert = Command(connection, "INSERT INTO messages (id, body, published_at, visible_at) VALUES ($id, $body, unixepoch('subsec'), unixepoch('subsec'))", ("$id", id), ("$body", body));
            insert.Transaction = transaction;
            await insert.ExecuteNonQueryAsync();
        }

        await transaction.CommitAsync();
    }

    /// <summary>Takes the message that has waited longest, and hides it from others.</summary>
    public async Task<Delivery?> ReceiveAsync(TimeSpan visibility)
    {
        using SqliteConnection connection = Open();
        using SqliteCommand take = Command(connection, """
            UPDATE messages SET visible_at = unixepoch('subsec') + $visibility, receipt = receipt + 1, deliveries = deliveries + 1
            WHERE row = (SELECT row FROM messages WHERE visible_at <= unixepoch('subsec') ORDER BY visible_at, receipt, row LIMIT 1)
            RETURNING row, receipt, deliveries, unixepoch('subsec') - published_at, id, body
            """, ("$visibility", visibility.TotalSeconds));
        using SqliteDataReader reader = await take.ExecuteReaderAsync();
        return await reader.ReadAsync()
            ? new Delivery(reader.GetInt64(0), reader.GetInt64(1), reader.GetInt32(2), TimeSpan.FromSeconds(reader.GetDouble(3)), reader.GetString(4), reader.GetFieldValue<byte[]>(5))
            : null;
    }

    /// <summary>It is done with.</summary>
    /// <returns>Whether it was still this delivery's: it may have been delivered again meanwhile.</returns>
    public async Task<bool> CompleteAsync(Delivery delivery) =>
        await ExecuteAsync("DELETE FROM messages WHERE row = $row AND receipt = $receipt", delivery) > 0;

    /// <summary>Others may take it, after a delay. A delivery that does not count is one that says nothing about the message.</summary>
    public async Task<bool> GiveBackAsync(Delivery delivery, TimeSpan delay, bool counts) =>
        await ExecuteAsync("""
            UPDATE messages SET visible_at = unixepoch('subsec') + $delay, deliveries = deliveries - $uncounted WHERE row = $row AND receipt = $receipt
            """, delivery, ("$delay", delay.TotalSeconds), ("$uncounted", counts ? 0 : 1)) > 0;

    /// <summary>It goes to the dead letters, where somebody can look at it.</summary>
    public Task BuryAsync(Delivery delivery, string reason) =>
        ExecuteAsync("""
            BEGIN IMMEDIATE;
            INSERT INTO dead_letters SELECT row, id, body, $reason FROM messages WHERE row = $row AND receipt = $receipt;
            DELETE FROM messages WHERE row = $row AND receipt = $receipt;
            COMMIT;
            """, delivery, ("$reason", reason));

    /// <summary>How many are left, hidden ones included.</summary>
    public async Task<long> CountAsync()
    {
        using SqliteConnection connection = Open();
        using SqliteCommand count = Command(connection, "SELECT count(*) FROM messages");
        return (long)(await count.ExecuteScalarAsync())!;
    }

    public async Task<List<DeadLetter>> DeadLettersAsync()
    {
        using SqliteConnection connection = Open();
        using SqliteCommand select = Command(connection, "SELECT id, reason FROM dead_letters ORDER BY row");
        using SqliteDataReader reader = await select.ExecuteReaderAsync();
        List<DeadLetter> letters = [];
        while (await reader.ReadAsync())
        {
            letters.Add(new DeadLetter(reader.GetString(0), reader.GetString(1)));
        }

        return letters;
    }

    private async Task<int> ExecuteAsync(string sql, Delivery delivery, params (string Name, object Value)[] parameters)
    {
        using SqliteConnection connection = Open();
        using SqliteCommand command = Command(connection, sql, [("$row", delivery.Row), ("$receipt", delivery.Receipt), .. parameters]);
        return await command.ExecuteNonQueryAsync();
    }

    private SqliteConnection Open()
    {
        var connection = new SqliteConnection(_database);
        connection.Open();
        return connection;
    }

    private static SqliteCommand Command(SqliteConnection connection, string sql, params (string Name, object Value)[] parameters)
    {
        SqliteCommand command = connection.CreateCommand();
        command.CommandText = sql;
        foreach ((string name, object value) in parameters)
        {
            command.Parameters.AddWithValue(name, value);
        }

        return command;
    }
}
