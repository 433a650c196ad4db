using Microsoft.Data.Sqlite;

namespace Backend.Toolkit.Idempotency.Sqlite;

/// <summary>A connection that runs statements: one of the store's own, which keeps them prepared, or the caller's with its transaction. Not thread-safe.</summary>
/// <param name="connection">The connection.</param>
/// <param name="transaction">The caller's transaction; null: one of the store's own connections.</param>
/// <param name="commandTimeout">In seconds, how long the driver blocks when the file is busy all the same.</param>
internal sealed class Session(SqliteConnection connection, SqliteTransaction? transaction, int commandTimeout)
{
    private readonly Dictionary<string, SqliteCommand>? _prepared = transaction is null ? new(StringComparer.Ordinal) : null;

    public SqliteConnection Connection => connection;

    /// <summary>How many rows it changed.</summary>
    public int Execute(string sql, params ReadOnlySpan<(string Name, object? Value)> values) => Run(sql, values, static command => command.ExecuteNonQuery());

    /// <summary>The first value; null when there is no row.</summary>
    public object? Scalar(string sql, params ReadOnlySpan<(string Name, object? Value)> values) => Run(sql, values, static command => command.ExecuteScalar());

    /// <summary>What the reader makes of the rows.</summary>
    public T Read<T>(string sql, Func<SqliteDataReader, T> read, params ReadOnlySpan<(string Name, object? Value)> values) => Run(sql, values, command =>
    {
        using SqliteDataReader reader = command.ExecuteReader();
        return read(reader);
    });

    /// <summary>Only one of the store's own.</summary>
    public void Close()
    {
        foreach (SqliteCommand command in _prepared!.Values)
        {
            command.Dispose();
        }

        connection.Dispose();
    }

    private T Run<T>(string sql, ReadOnlySpan<(string Name, object? Value)> values, Func<SqliteCommand, T> run)
    {
        if (_prepared is not null && _prepared.TryGetValue(sql, out SqliteCommand? command))
        {
            for (int i = 0; i < values.Length; i++)
            {
                command.Parameters[i].Value = values[i].Value ?? DBNull.Value;
            }

            return run(command);
        }

        command = connection.CreateCommand();
        command.CommandText = sql;
        command.Transaction = transaction;
        command.CommandTimeout = commandTimeout;
        foreach ((string name, object? value) in values)
        {
            command.Parameters.AddWithValue(name, value ?? DBNull.Value);
        }

        if (_prepared is not null)
        {
            _prepared.Add(sql, command);
            return run(command);
        }

        using (command)
        {
            return run(command);
        }
    }
}
