namespace Backend.Toolkit.Idempotency.Sqlite;

/// <summary>
/// The statements over one set of tables. Instants are µs since 1970 of SQLite's own clock, which is the machine's and has milliseconds. Fences are one sequence for all keys, so that a key whose record was deleted never gets one again.
/// </summary>
internal sealed class Statements(string table)
{
    private const string Now = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)";

    /// <summary>The condition of every write.</summary>
    private const string Owned = $"key = $key AND fence = $fence AND state = 0 AND expiry > {Now}";

    public string Script { get; } = $"""
        PRAGMA journal_mode = WAL;
        CREATE TABLE IF NOT EXISTS {table} (
          key BLOB NOT NULL PRIMARY KEY,
          fingerprint BLOB NOT NULL,
          fence INTEGER NOT NULL,
          state INTEGER NOT NULL, -- 0 in progress, 1 abandoned, 2 completed, 3 completed and too large to keep
          lease_end INTEGER NOT NULL,
          expiry INTEGER NOT NULL,
          status INTEGER NOT NULL DEFAULT 0,
          content BLOB
        ) STRICT;
        CREATE INDEX IF NOT EXISTS {table}_expiry ON {table} (expiry);
        CREATE TABLE IF NOT EXISTS {table}_phases (
          key BLOB NOT NULL,
          phase BLOB NOT NULL, -- UTF-16
          value BLOB NOT NULL,
          PRIMARY KEY (key, phase)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS {table}_fence (only INTEGER PRIMARY KEY CHECK (only = 1), fence INTEGER NOT NULL) STRICT;
        INSERT INTO {table}_fence (only, fence) VALUES (1, 0) ON CONFLICT DO NOTHING;
        """;

    public string Exists { get; } = $"SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('{table}', '{table}_phases', '{table}_fence')";

    /// <summary>Writes nothing, but takes the writer's lock of a transaction that has none yet.</summary>
    public string Lock { get; } = $"UPDATE {table}_fence SET fence = fence WHERE 0";

    public string Find { get; } = $"SELECT key = $key, fingerprint, fence, state, lease_end - {Now}, status, content FROM {table} WHERE key IN ($key, $previous) AND expiry > {Now} ORDER BY 1 DESC LIMIT 1";

    public string NextFence { get; } = $"UPDATE {table}_fence SET fence = max(fence + 1, {Now}) RETURNING fence";

    /// <summary>In place of an expired one that may still be there.</summary>
    public string Insert { get; } = $"""
        INSERT INTO {table} (key, fingerprint, fence, state, lease_end, expiry) VALUES ($key, $fingerprint, $fence, 0, {Now} + $lease, {Now} + $life)
        ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, fence = excluded.fence, state = 0, lease_end = excluded.lease_end, expiry = excluded.expiry, status = 0, content = NULL
        """;

    public string TakeOver { get; } = $"UPDATE {table} SET fence = $fence, state = 0, lease_end = {Now} + $lease, expiry = {Now} + $life WHERE key = $key";

    public string Phases { get; } = $"SELECT phase, value FROM {table}_phases WHERE key = $key";

    public string ForgetPhases { get; } = $"DELETE FROM {table}_phases WHERE key = $key";

    public string Renew { get; } = $"UPDATE {table} SET lease_end = {Now} + $lease, expiry = max(expiry, {Now} + $lease) WHERE {Owned}";

    public string SavePhase { get; } = $"""
        INSERT INTO {table}_phases (key, phase, value) SELECT key, $phase, $value FROM {table} WHERE {Owned}
        ON CONFLICT (key, phase) DO UPDATE SET value = excluded.value
        """;

    public string Complete { get; } = $"UPDATE {table} SET state = $state, status = $status, content = $content, expiry = {Now} + $retention WHERE {Owned}";

    public string IsCompleted { get; } = $"SELECT 1 FROM {table} WHERE key = $key AND fence = $fence AND state >= 2 AND expiry > {Now}";

    public string AbandonWithPhases { get; } = $"UPDATE {table} SET state = 1 WHERE {Owned} AND EXISTS (SELECT 1 FROM {table}_phases WHERE key = $key)";

    public string Abandon { get; } = $"DELETE FROM {table} WHERE {Owned}";

    public string IsOwned { get; } = $"SELECT 1 FROM {table} WHERE {Owned}";

    public static string Version => "PRAGMA data_version";

    public string CleanUpPhases { get; } = $"DELETE FROM {table}_phases WHERE key IN (SELECT key FROM {table} WHERE expiry <= $now ORDER BY expiry LIMIT $batch)";

    public string CleanUp { get; } = $"DELETE FROM {table} WHERE key IN (SELECT key FROM {table} WHERE expiry <= $now ORDER BY expiry LIMIT $batch)";

    public static string Clock => $"SELECT {Now}";
}
