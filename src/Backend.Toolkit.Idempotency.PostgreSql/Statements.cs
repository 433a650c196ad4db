using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Backend.Toolkit.Idempotency.PostgreSql;

/// <summary>
/// The SQL for one table. Instants are <c>clock_timestamp()</c>, since <c>now()</c> is the beginning of the caller's transaction and <c>statement_timestamp()</c> the time before a wait for a lock.
/// Durations are seconds as <c>float8</c>: an interval of days would follow the session's time zone through summer time. State: 0 in progress, 1 completed, 2 abandoned.
/// </summary>
internal sealed class Statements
{
    private const string Now = "clock_timestamp()";
    private const string Microseconds = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

    public Statements(string schema, string table)
    {
        Table = $"\"{schema}\".\"{table}\"";
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(Encoding.UTF8.GetBytes($"backend.toolkit.idempotency:{schema}.{table}"), hash);
        LockSalt = BinaryPrimitives.ReadInt64BigEndian(hash);
        Channel = $"idempotency_{Convert.ToHexStringLower(hash[..16])}";
        Script = CreateScript(schema, table, LockSalt.ToString(CultureInfo.InvariantCulture));

        Begin = ClaimSql(pair: false, inTransaction: false);
        BeginPair = ClaimSql(pair: true, inTransaction: false);
        Claim = ClaimSql(pair: false, inTransaction: true);
        ClaimPair = ClaimSql(pair: true, inTransaction: true);
        Complete = CompleteSql("state <= 1", "SELECT {0} FROM done");
        CompleteForCommit = CompleteSql("state = 0", "SELECT {0}, 1 / (CASE WHEN done.awaited IS NULL THEN 0 ELSE 1 END) FROM (VALUES (1)) one LEFT JOIN done ON true");
    }

    /// <summary>The qualified name, quoted.</summary>
    public string Table { get; }

    public string Script { get; }

    public string Channel { get; }

    /// <summary>Keeps advisory locks of one table apart from those of another.</summary>
    public long LockSalt { get; }

    /// <summary>$1 key, $2 fingerprint, $3 lease, $4 max(lease, retention), $5 lock timeout.</summary>
    public string Begin { get; }

    /// <summary>The same, and $6 the second key.</summary>
    public string BeginPair { get; }

    /// <summary>As <see cref="Begin"/>, and $6 the advisory lock, $7 whether it is necessary.</summary>
    public string Claim { get; }

    /// <summary>As <see cref="Claim"/>, and $8 the second key.</summary>
    public string ClaimPair { get; }

    /// <summary>$1 key, $2 fence, $3 status, $4 content, $5 retention. A row when it was, or is, completed under the fence.</summary>
    public string Complete { get; }

    /// <summary>The same, but fails with <c>division_by_zero</c> when the record is not in progress under the fence, so that a COMMIT behind it in one batch is not reached.</summary>
    public string CompleteForCommit { get; }

    /// <summary>Ahead of a claim of two keys, in a batch that is a transaction by itself: a role may have another default, and then the second statement would not see what the first waited for.</summary>
    public const string ReadCommitted = "SET transaction_isolation = 'read committed'";

    /// <summary>$1 the lock, $2 lock timeout. Ahead of a claim of two keys: no index keeps (a, b) and (b, a) apart. In a statement of its own, as the claim must look after the wait.</summary>
    public const string WaitForPair = """
        WITH was AS MATERIALIZED (SELECT current_setting('lock_timeout') AS value),
        patience AS MATERIALIZED (SELECT set_config('lock_timeout', $2, true) FROM was),
        held AS MATERIALIZED (SELECT pg_advisory_xact_lock($1)::text FROM patience)
        SELECT set_config('lock_timeout', was.value, true) FROM was LEFT JOIN held ON true
        """;

    /// <summary>$1 the lock, $2 not used. Fails with <c>division_by_zero</c> when another transaction has it, so that the claim behind it is not reached.</summary>
    public const string TryPair = "SELECT 1 / pg_try_advisory_xact_lock($1)::int, $2::text";

    /// <summary>$1 key, $2 fence, $3 lease.</summary>
    public string Renew => $"""
        UPDATE {Table} SET
          lease_end = {Now} + $3 * interval '1 second',
          expiry = greatest(expiry, {Now} + $3 * interval '1 second'),
          cleanup_at = greatest(cleanup_at, {CleanupAt($"{Now} + $3 * interval '1 second'")})
        WHERE key = $1 AND fence = $2 AND state = 0 AND expiry > {Now} RETURNING 1
        """;

    /// <summary>$1 key, $2 fence, $3 one more entry.</summary>
    public string SavePhase => $"""
        UPDATE {Table} SET phases = coalesce(phases, '') || $3 WHERE key = $1 AND fence = $2 AND state = 0 AND expiry > {Now} RETURNING 1
        """;

    /// <summary>$1 key, $2 fence.</summary>
    public string Abandon => $"""
        WITH gone AS (
          DELETE FROM {Table} WHERE key = $1 AND fence = $2 AND state = 0 AND expiry > {Now} AND phases IS NULL RETURNING awaited),
        kept AS (
          UPDATE {Table} SET state = 2 WHERE key = $1 AND fence = $2 AND state = 0 AND expiry > {Now} AND phases IS NOT NULL RETURNING awaited)
        SELECT {Notify} FROM (SELECT awaited FROM gone UNION ALL SELECT awaited FROM kept) done
        """;

    /// <summary>
    /// $1 key, $2 fence: whether it is in progress under the fence, and then will be told of. What another transaction is just ending is waited for, and then seen to have ended.
    /// </summary>
    public string Await => $"""
        WITH marked AS (
          UPDATE {Table} SET awaited = true WHERE key = $1 AND fence = $2 AND state = 0 AND NOT awaited AND expiry > {Now} RETURNING 1)
        SELECT 1 FROM marked UNION ALL
        SELECT 1 FROM {Table} WHERE key = $1 AND fence = $2 AND state = 0 AND awaited AND expiry > {Now}
        """;

    /// <summary>$1 key, $2 fence.</summary>
    public string IsInProgress => $"SELECT 1 FROM {Table} WHERE key = $1 AND fence = $2 AND state = 0 AND expiry > {Now}";

    /// <summary>$1 how many. As an array: it is worked out once, whatever the plan.</summary>
    public string CleanUp => $"""
        DELETE FROM {Table} WHERE key = ANY (ARRAY(
          SELECT key FROM {Table} WHERE cleanup_at <= statement_timestamp() AND expiry <= statement_timestamp() ORDER BY cleanup_at LIMIT $1 FOR UPDATE SKIP LOCKED))
        """;

    private string Notify => $"CASE WHEN done.awaited THEN pg_notify('{Channel}', encode($1, 'hex'))::text END";

    /// <summary>Later than the expiry, in whole minutes: an update seldom changes it, and one that changes no index is cheap (HOT).</summary>
    private static string CleanupAt(string expiry) => $"date_trunc('minute', {expiry}) + interval '1 minute'";

    /// <summary>
    /// Looks first, so that a repeat writes nothing; then inserts, or takes over what may be taken over. A row that was committed since the statement began is seen by ON CONFLICT alone: no answer comes
    /// out, and the caller asks again. The advisory lock is tried for also where it is not necessary (a sum, since OR would be folded), so that who does not want to wait sees it. The lock timeout is the claim's while it may wait, and the caller's again in the same statement.
    /// </summary>
    private string ClaimSql(bool pair, bool inTransaction)
    {
        string second = inTransaction ? "$8" : "$6";
        string mayBeTakenOver = $"(r.fingerprint = EXCLUDED.fingerprint AND (r.state = 2 OR r.state = 0 AND r.lease_end <= {Now}))";
        return $"""
            WITH was AS MATERIALIZED (SELECT current_setting('lock_timeout') AS value),
            patience AS MATERIALIZED (SELECT set_config('lock_timeout', $5, true), {Now} AS now FROM was),
            seen AS MATERIALIZED (
              SELECT key, fence, state, lease_end, status, content,
                CASE WHEN fingerprint <> $2 THEN 3 WHEN state = 1 THEN 2 WHEN state = 0 AND lease_end > {Now} THEN 1 ELSE 0 END AS answer
              FROM {Table} WHERE {(pair ? $"key IN ($1, {second})" : "key = $1")} AND expiry > {Now}{(pair ? " ORDER BY key = $1 DESC LIMIT 1" : "")}),
            mine AS MATERIALIZED (SELECT {(inTransaction ? "pg_try_advisory_xact_lock($6)::int + (NOT $7)::int > 0" : "true")} AS ok),
            claimed AS (
              INSERT INTO {Table} AS r (key, fingerprint, fence, state, lease_end, expiry, cleanup_at)
              SELECT {(pair ? "coalesce((SELECT key FROM seen), $1)" : "$1")}, $2, {Microseconds}, 0, p.now + $3 * interval '1 second', p.now + $4 * interval '1 second', {CleanupAt("p.now + $4 * interval '1 second'")}
              FROM mine CROSS JOIN patience p WHERE mine.ok AND NOT EXISTS (SELECT FROM seen WHERE answer > 0)
              ON CONFLICT (key) DO UPDATE SET
                fingerprint = EXCLUDED.fingerprint,
                fence = greatest(r.fence + 1, {Microseconds}),
                state = 0,
                lease_end = {Now} + $3 * interval '1 second',
                expiry = {Now} + $4 * interval '1 second',
                cleanup_at = {CleanupAt($"{Now} + $4 * interval '1 second'")},
                status = NULL,
                content = NULL,
                phases = CASE WHEN r.expiry > {Now} THEN r.phases END
              WHERE r.expiry <= {Now} OR {mayBeTakenOver}
              RETURNING r.key, r.fence, r.phases)
            SELECT set_config('lock_timeout', was.value, true), r.answer, r.key <> $1, r.fence, r.lease_left, r.status, r.content, r.phases, CASE WHEN r.answer IS NULL THEN (SELECT ok FROM mine) ELSE true END
            FROM was LEFT JOIN (
              SELECT 0 AS answer, key, fence, NULL::float8 AS lease_left, NULL::integer AS status, NULL::bytea AS content, phases FROM claimed
              UNION ALL
              SELECT answer, key, fence, CASE WHEN answer = 1 THEN extract(epoch FROM lease_end - {Now})::float8 END, status, CASE WHEN answer = 2 THEN content END, NULL
              FROM seen WHERE answer > 0) r ON true
            """;
    }

    /// <summary>What was completed under the fence before is matched, and left as it is: two attempts of one owner may meet.</summary>
    private string CompleteSql(string state, string answer) => $"""
        WITH done AS (
          UPDATE {Table} SET
            state = 1,
            status = CASE WHEN state = 0 THEN $3 ELSE status END,
            content = CASE WHEN state = 0 THEN $4 ELSE content END,
            phases = NULL,
            expiry = CASE WHEN state = 0 THEN {Now} + $5 * interval '1 second' ELSE expiry END,
            cleanup_at = CASE WHEN state = 0 THEN {CleanupAt($"{Now} + $5 * interval '1 second'")} ELSE cleanup_at END
          WHERE key = $1 AND fence = $2 AND {state} AND expiry > {Now} RETURNING awaited)
        {answer.Replace("{0}", Notify, StringComparison.Ordinal)}
        """;

    private static string CreateScript(string schema, string table, string advisoryLock) => $$"""
        -- Records of idempotency keys, of any number of applications: keys are SHA-256 over scope and key. May be run again, and by several at once.
        SELECT pg_advisory_xact_lock({{advisoryLock}});

        DO $$
        BEGIN
          -- CREATE SCHEMA IF NOT EXISTS asks for the right to create one even where it exists; what another has just created is not seen here.
          IF to_regnamespace('"{{schema}}"') IS NULL THEN
            CREATE SCHEMA "{{schema}}";
          END IF;
        EXCEPTION WHEN duplicate_schema OR unique_violation THEN
          NULL;
        END $$;

        CREATE TABLE IF NOT EXISTS "{{schema}}"."{{table}}" (
          key bytea PRIMARY KEY,
          fingerprint bytea NOT NULL,
          fence bigint NOT NULL,           -- max(previous + 1, microseconds since 1970)
          lease_end timestamptz NOT NULL,
          expiry timestamptz NOT NULL,
          cleanup_at timestamptz NOT NULL, -- the expiry, rounded up to a minute, so that an update seldom changes an index
          state smallint NOT NULL,         -- 0 in progress, 1 completed, 2 abandoned
          awaited boolean NOT NULL DEFAULT false,
          status integer,
          phases bytea,                    -- entries one after the other: name and value, each preceded by its length; the last of a name counts
          content bytea                    -- of a completed record; NULL: it was too large to keep
        ) WITH (
          fillfactor = 70,
          autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0.05,
          autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0,
          toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 1000, toast.autovacuum_vacuum_cost_delay = 0
        );

        CREATE INDEX IF NOT EXISTS "{{table}}_cleanup" ON "{{schema}}"."{{table}}" (cleanup_at);
        """;
}
