using System.Data.Common;
using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace Backend.Toolkit.Webhooks.Delivery.Sqlite;

/// <summary>
/// Events, endpoints, deliveries and attempts in the application's SQLite file. For one node: its clock is the store's. One writer at a time in this process, so that they queue here and not in the file's lock; an idle
/// poll only reads. What the worker writes is synced to disk at checkpoints: a power cut may make it deliver again, never lose. What the application commits is synced as its own connection says, endpoints always.
/// Thread-safe.
/// </summary>
public sealed class SqliteWebhookDeliveryStore : IWebhookDeliveryStore, IDisposable
{
    private const string Deferred = "PRAGMA busy_timeout = 10000; PRAGMA synchronous = NORMAL;";
    private const string Durable = "PRAGMA busy_timeout = 10000; PRAGMA synchronous = FULL;";

    private readonly SemaphoreSlim _writer = new(1);
    private readonly TimeProvider _timeProvider;
    private readonly string _connectionString;
    private readonly bool _createSchema;

    /// <summary>As SQLite calls it. Null: it was never opened.</summary>
    private volatile string? _file;

    /// <summary>Makes a store; nothing is opened yet.</summary>
    /// <param name="options">The options.</param>
    /// <param name="timeProvider">The store's clock. Default: the system's.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options are invalid.</exception>
    public SqliteWebhookDeliveryStore(SqliteWebhookDeliveryStoreOptions options, TimeProvider? timeProvider = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        _timeProvider = timeProvider ?? TimeProvider.System;
        _connectionString = options.ConnectionString;
        _createSchema = options.CreateSchema;
    }

    /// <summary>Makes the tables and indexes that are not there yet.</summary>
    /// <returns>SQL that may be run again.</returns>
    public static string Script() => Schema.Script;

    private long Now => _timeProvider.GetUtcNow().ToUnixTimeMilliseconds();

    /// <inheritdoc/>
    public ValueTask PrepareAsync(CancellationToken cancellationToken = default)
    {
        using SqliteConnection connection = Open(Durable);
        if (_createSchema)
        {
            Command(connection, "PRAGMA journal_mode = WAL").ExecuteNonQuery();
            using SqliteTransaction transaction = connection.BeginTransaction(deferred: false);
            Command(connection, Schema.Script).ExecuteNonQuery();
            transaction.Commit();
        }
        else if (Command(connection, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'webhook_events'").ExecuteScalar() is null)
        {
            throw new InvalidOperationException($"The tables of webhook deliveries must be in {_file}, but are not. Run SqliteWebhookDeliveryStore.Script() in your migration, or let CreateSchema be true.");
        }

        return default;
    }

    /// <inheritdoc/>
    public ValueTask EnqueueAsync(WebhookEventRow row, DbTransaction? transaction, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(row);
        if (transaction is null)
        {
            return Discard(WriteAsync(Durable, connection => Enqueue(connection, null, row), cancellationToken));
        }

        if (transaction is not SqliteTransaction own)
        {
            throw new ArgumentException($"The transaction must be a SqliteTransaction, but is {transaction.GetType().FullName}.", nameof(transaction));
        }

        SqliteConnection connection = own.Connection ?? throw new InvalidOperationException("The transaction has ended.");
        if (_file is null)
        {
            Open(Deferred).Dispose();
        }

        if (File(connection) != _file)
        {
            throw new ArgumentException($"The transaction must be of the store's file {_file}, but is of {File(connection)}.", nameof(transaction));
        }

        Enqueue(connection, own, row);
        return default;
    }

    /// <inheritdoc/>
    public async ValueTask<int> FanOutAsync(int limit, CancellationToken cancellationToken = default)
    {
        const string waiting = "SELECT 1 FROM webhook_events WHERE fanned_out = 0 LIMIT 1";
        return !IsAny(waiting) ? 0 : await WriteAsync(
            Deferred,
            connection =>
            {
                const string insert = $"""
                    INSERT INTO webhook_deliveries (event_seq, endpoint_id, order_key, next_at)
                    SELECT e.seq, p.id, e.order_key, @now
                    FROM (SELECT * FROM webhook_events WHERE fanned_out = 0 ORDER BY seq LIMIT @limit) e
                    JOIN webhook_endpoints p ON p.audience = e.audience
                      AND CASE WHEN e.endpoint_id IS NULL THEN p.types = '' OR instr(p.types, ' ' || e.type || ' ') > 0 ELSE p.id = e.endpoint_id END
                      AND (p.enabled = 1 OR e.type <> '{WebhookEndpoints.DisabledType}')
                    ORDER BY e.seq, p.id
                    """;
                const string mark = "UPDATE webhook_events SET fanned_out = 1 WHERE seq IN (SELECT seq FROM webhook_events WHERE fanned_out = 0 ORDER BY seq LIMIT @limit)";
                Command(connection, insert, ("@now", Now), ("@limit", limit)).ExecuteNonQuery();
                return Command(connection, mark, ("@limit", limit)).ExecuteNonQuery();
            },
            cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask<IReadOnlyList<WebhookClaim>> ClaimAsync(WebhookClaimRequest request, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);

        // Reading takes no lock; what is read is read again under the writer's lock, claim by claim.
        List<(WebhookEndpointRow Row, int Quota)> endpoints = [];
        using (SqliteConnection reading = Open(Deferred))
        {
            foreach (WebhookEndpointRow row in Candidates(reading, request))
            {
                int quota = request.Quota(row.Endpoint.Id, row.Endpoint.ConsecutiveFailures);
                if (quota > 0)
                {
                    endpoints.Add((row, row.Endpoint.ConsecutiveFailures > 0 ? 1 : quota));
                }
            }
        }

        return endpoints.Count == 0 ? [] : await WriteAsync(
            Deferred,
            connection =>
            {
                var claims = new List<WebhookClaim>();
                foreach ((WebhookEndpointRow row, int quota) in endpoints)
                {
                    Claim(connection, request, row, quota, claims);
                }

                return claims;
            },
            cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public ValueTask RecordAsync(IReadOnlyList<WebhookOutcome> outcomes, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(outcomes);
        return Discard(WriteAsync(
            Deferred,
            connection =>
            {
                long now = Now;
                foreach (WebhookOutcome outcome in outcomes)
                {
                    Record(connection, outcome, now);
                }

                return 0;
            },
            cancellationToken));
    }

    /// <inheritdoc/>
    public async ValueTask<int> MaintainAsync(TimeSpan retention, int limit, CancellationToken cancellationToken = default)
    {
        long now = Now;
        long before = now - (long)retention.TotalMilliseconds;
        const string orphans = """
            SELECT d.id FROM webhook_endpoints p JOIN webhook_deliveries d ON d.endpoint_id = p.id
            WHERE p.enabled = 0 AND d.state = 0 AND (d.lease_until IS NULL OR d.lease_until <= @now) LIMIT @limit
            """;
        const string finished = "SELECT id FROM webhook_deliveries WHERE state <> 0 AND finished_at < @before LIMIT @limit";
        const string old = """
            SELECT seq FROM webhook_events e WHERE fanned_out = 1 AND created_at < @before
              AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.event_seq = e.seq) LIMIT @limit
            """;
        (string, object?)[] values = [("@now", now), ("@before", before), ("@limit", limit)];
        bool any = IsAny(orphans, values) || IsAny(finished, values) || IsAny(old, values);
        return !any ? 0 : await WriteAsync(
            Deferred,
            connection =>
            {
                string reason = "(SELECT 'the endpoint is disabled: ' || COALESCE(disabled_reason, '') FROM webhook_endpoints p WHERE p.id = endpoint_id)";
                int rows = Command(connection, $"UPDATE webhook_deliveries SET state = 2, next_at = NULL, lease_until = NULL, finished_at = @now, dead_reason = {reason} WHERE id IN ({orphans})", values).ExecuteNonQuery();
                Command(connection, $"DELETE FROM webhook_attempts WHERE delivery_id IN ({finished})", values).ExecuteNonQuery();
                rows = Math.Max(rows, Command(connection, $"DELETE FROM webhook_deliveries WHERE id IN ({finished})", values).ExecuteNonQuery());
                return Math.Max(rows, Command(connection, $"DELETE FROM webhook_events WHERE seq IN ({old})", values).ExecuteNonQuery());
            },
            cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public ValueTask<TimeSpan> OldestDueAsync(CancellationToken cancellationToken = default)
    {
        const string oldest = """
            SELECT MIN(at) FROM (
              SELECT (SELECT d.next_at FROM webhook_deliveries d WHERE d.endpoint_id = p.id AND d.state = 0 AND d.next_at <= @now
                AND (d.order_key IS NULL OR NOT EXISTS (
                  SELECT 1 FROM webhook_deliveries o WHERE o.endpoint_id = d.endpoint_id AND o.order_key = d.order_key AND o.state = 0 AND o.id <> d.id AND (o.id < d.id OR o.lease_until > @now)))
                ORDER BY d.next_at LIMIT 1) AS at
              FROM webhook_endpoints p WHERE p.enabled = 1 AND (p.paused_until IS NULL OR p.paused_until <= @now)
              UNION ALL SELECT created_at FROM (SELECT created_at FROM webhook_events WHERE fanned_out = 0 ORDER BY seq LIMIT 1))
            """;
        using SqliteConnection connection = Open(Deferred);
        long now = Now;
        return new(Command(connection, oldest, ("@now", now)).ExecuteScalar() is long at && at < now ? TimeSpan.FromMilliseconds(now - at) : TimeSpan.Zero);
    }

    /// <inheritdoc/>
    public ValueTask InsertEndpointAsync(WebhookEndpointRow row, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(row);
        const string insert = "INSERT INTO webhook_endpoints (id, audience, url, types, secrets, enabled, disabled_reason, created_at) VALUES (@id, @audience, @url, @types, @secrets, @enabled, @reason, @now)";
        return Discard(WriteAsync(
            Durable,
            connection => Command(
                connection,
                insert,
                ("@id", row.Endpoint.Id),
                ("@audience", row.Endpoint.Audience),
                ("@url", row.Endpoint.Url),
                ("@types", Types(row.Endpoint.Types)),
                ("@secrets", row.Secrets),
                ("@enabled", row.Endpoint.IsEnabled ? 1 : 0),
                ("@reason", row.Endpoint.DisabledReason),
                ("@now", Now)).ExecuteNonQuery(),
            cancellationToken));
    }

    /// <inheritdoc/>
    public async ValueTask<bool> UpdateEndpointAsync(WebhookEndpointRow row, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(row);
        const string update = """
            UPDATE webhook_endpoints SET url = @url, types = @types, secrets = @secrets, version = version + 1, disabled_reason = @reason,
              failures = CASE WHEN @enabled > enabled OR @url <> url THEN 0 ELSE failures END, failing_since = CASE WHEN @enabled > enabled OR @url <> url THEN NULL ELSE failing_since END,
              paused_until = CASE WHEN @enabled > enabled OR @url <> url THEN NULL ELSE paused_until END, enabled = @enabled
            WHERE id = @id AND version = @version
            """;
        return await WriteAsync(
            Durable,
            connection => Command(
                connection,
                update,
                ("@id", row.Endpoint.Id),
                ("@version", row.Version),
                ("@url", row.Endpoint.Url),
                ("@types", Types(row.Endpoint.Types)),
                ("@secrets", row.Secrets),
                ("@enabled", row.Endpoint.IsEnabled ? 1 : 0),
                ("@reason", row.Endpoint.DisabledReason)).ExecuteNonQuery() > 0,
            cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public ValueTask<WebhookEndpointRow?> FindEndpointAsync(string endpointId, CancellationToken cancellationToken = default)
    {
        using SqliteConnection connection = Open(Deferred);
        using SqliteDataReader reader = Command(connection, $"SELECT {EndpointColumns} FROM webhook_endpoints p WHERE p.id = @id", ("@id", endpointId)).ExecuteReader();
        return new(reader.Read() ? Endpoint(reader) : null);
    }

    /// <inheritdoc/>
    public ValueTask<IReadOnlyList<WebhookEndpoint>> ListEndpointsAsync(string? audience, string afterId, int limit, CancellationToken cancellationToken = default)
    {
        string restriction = audience is null ? "" : "p.audience = @audience AND ";
        using SqliteConnection connection = Open(Deferred);
        using SqliteDataReader reader = Command(
            connection,
            $"SELECT {EndpointColumns} FROM webhook_endpoints p WHERE {restriction}p.id > @after ORDER BY p.id LIMIT @limit",
            ("@audience", audience),
            ("@after", afterId),
            ("@limit", limit)).ExecuteReader();
        var endpoints = new List<WebhookEndpoint>();
        while (reader.Read())
        {
            endpoints.Add(Endpoint(reader).Endpoint);
        }

        return new(endpoints);
    }

    /// <inheritdoc/>
    public ValueTask<IReadOnlyList<WebhookDelivery>> ListDeliveriesAsync(WebhookDeliveryFilter filter, long? beforeId, int limit, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(filter);

        // Of states that few have: SQLite would go through all of an endpoint's deliveries.
        string few = filter.EventId is not null || filter.DeliveryId is not null ? "" : filter.State switch
        {
            WebhookDeliveryState.Pending => "INDEXED BY webhook_deliveries_due",
            WebhookDeliveryState.Dead => "INDEXED BY webhook_deliveries_dead",
            _ => "",
        };
        string select = $"""
            SELECT d.id, e.id, e.type, d.endpoint_id, d.order_key, d.state, d.attempts, d.next_at, d.finished_at, d.dead_reason
            FROM webhook_deliveries d {few} JOIN webhook_events e ON e.seq = d.event_seq WHERE {Where(filter)} AND d.id < @before ORDER BY d.id DESC LIMIT @limit
            """;
        using SqliteConnection connection = Open(Deferred);
        using SqliteDataReader reader = Command(connection, select, [.. Values(filter), ("@before", beforeId ?? long.MaxValue), ("@limit", limit)]).ExecuteReader();
        var deliveries = new List<WebhookDelivery>();
        while (reader.Read())
        {
            deliveries.Add(new WebhookDelivery(
                reader.GetInt64(0), reader.GetString(1), reader.GetString(2), reader.GetString(3), Text(reader, 4), (WebhookDeliveryState)reader.GetInt32(5), reader.GetInt32(6), Time(reader, 7), Time(reader, 8), Text(reader, 9)));
        }

        return new(deliveries);
    }

    /// <inheritdoc/>
    public ValueTask<IReadOnlyList<WebhookAttempt>> ListAttemptsAsync(long deliveryId, CancellationToken cancellationToken = default)
    {
        const string select = "SELECT number, recorded_at, status, duration_us, error, response FROM webhook_attempts WHERE delivery_id = @id ORDER BY number";
        using SqliteConnection connection = Open(Deferred);
        using SqliteDataReader reader = Command(connection, select, ("@id", deliveryId)).ExecuteReader();
        var attempts = new List<WebhookAttempt>();
        while (reader.Read())
        {
            attempts.Add(new WebhookAttempt(
                reader.GetInt64(0), Time(reader, 1)!.Value, reader.IsDBNull(2) ? null : reader.GetInt32(2), TimeSpan.FromMicroseconds(reader.GetInt64(3)), Text(reader, 4), reader.GetFieldValue<byte[]>(5)));
        }

        return new(attempts);
    }

    /// <inheritdoc/>
    public async ValueTask<long> RequeueAsync(WebhookDeliveryFilter filter, TimeSpan spacing, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(filter);
        string update = $"""
            UPDATE webhook_deliveries SET state = 0, attempts = 0, first_attempt_at = NULL, finished_at = NULL, dead_reason = NULL, lease_until = NULL, next_at = @now + CAST(again.n * @spacing AS INTEGER)
            FROM (SELECT d.id, row_number() OVER (ORDER BY d.id) - 1 AS n FROM webhook_deliveries d JOIN webhook_events e ON e.seq = d.event_seq JOIN webhook_endpoints p ON p.id = d.endpoint_id
                  WHERE d.state <> 0 AND p.enabled = 1 AND {Where(filter)}) again
            WHERE webhook_deliveries.id = again.id
            """;
        return await WriteAsync(
            Durable,
            connection => Command(connection, update, [.. Values(filter), ("@now", Now), ("@spacing", spacing.TotalMilliseconds)]).ExecuteNonQuery(),
            cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Ends the queue of writers; connections are the pool's.</summary>
    public void Dispose() => _writer.Dispose();

    private const string EndpointColumns = "p.id, p.audience, p.url, p.types, p.enabled, p.disabled_reason, p.failures, p.failing_since, p.paused_until, p.created_at, p.secrets, p.version";

    /// <summary>Endpoints with due work, by a seek from one to the next.</summary>
    private List<WebhookEndpointRow> Candidates(SqliteConnection connection, WebhookClaimRequest request)
    {
        const string select = $"""
            WITH RECURSIVE c (id) AS (
              SELECT * FROM (SELECT endpoint_id FROM webhook_deliveries WHERE state = 0 AND endpoint_id > @after AND endpoint_id <= @to ORDER BY endpoint_id LIMIT 1)
              UNION ALL
              SELECT (SELECT d.endpoint_id FROM webhook_deliveries d WHERE d.state = 0 AND d.endpoint_id > c.id AND d.endpoint_id <= @to ORDER BY d.endpoint_id LIMIT 1) FROM c WHERE c.id IS NOT NULL
            )
            SELECT {EndpointColumns} FROM c CROSS JOIN webhook_endpoints p
            WHERE p.id = c.id AND p.enabled = 1 AND (p.paused_until IS NULL OR p.paused_until <= @now)
              AND EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.endpoint_id = c.id AND d.state = 0 AND d.next_at <= @now)
            LIMIT @limit
            """;
        var rows = new List<WebhookEndpointRow>();
        (string After, string To)[] parts = request.AfterEndpointId.Length == 0 ? [("", "\uffff")] : [(request.AfterEndpointId, "\uffff"), ("", request.AfterEndpointId)];
        foreach ((string after, string to) in parts)
        {
            if (rows.Count < request.MaxEndpoints)
            {
                using SqliteDataReader reader = Command(connection, select, ("@after", after), ("@to", to), ("@now", Now), ("@limit", request.MaxEndpoints - rows.Count)).ExecuteReader();
                while (reader.Read())
                {
                    rows.Add(Endpoint(reader));
                }
            }
        }

        return rows;
    }

    private void Claim(SqliteConnection connection, WebhookClaimRequest request, WebhookEndpointRow row, int quota, List<WebhookClaim> claims)
    {
        const string select = """
            SELECT d.id, d.fence + 1, d.attempts, d.first_attempt_at, e.id, e.type, e.audience, e.order_key, e.endpoint_id, e.trace_parent, e.payload
            FROM webhook_deliveries d JOIN webhook_events e ON e.seq = d.event_seq
            WHERE d.endpoint_id = @endpoint AND d.state = 0 AND d.next_at <= @now
              AND EXISTS (SELECT 1 FROM webhook_endpoints p WHERE p.id = @endpoint AND p.enabled = 1 AND p.failures = @failures AND p.version = @version AND (p.paused_until IS NULL OR p.paused_until <= @now))
              AND (d.order_key IS NULL OR NOT EXISTS (
                SELECT 1 FROM webhook_deliveries o WHERE o.endpoint_id = d.endpoint_id AND o.order_key = d.order_key AND o.state = 0 AND o.id <> d.id AND (o.id < d.id OR o.lease_until > @now)))
            ORDER BY d.next_at, d.id LIMIT @quota
            """;
        long now = Now;
        long until = now + (long)request.Lease.TotalMilliseconds;
        WebhookEndpoint endpoint = row.Endpoint;
        TimeSpan? failingFor = endpoint.FailingSince is { } since ? TimeSpan.FromMilliseconds(Math.Max(0, now - since.ToUnixTimeMilliseconds())) : null;
        int first = claims.Count;
        using (SqliteDataReader reader = Command(connection, select, ("@endpoint", endpoint.Id), ("@failures", endpoint.ConsecutiveFailures), ("@version", row.Version), ("@now", now), ("@quota", quota)).ExecuteReader())
        {
            while (reader.Read())
            {
                var age = TimeSpan.FromMilliseconds(reader.IsDBNull(3) ? 0 : Math.Max(0, now - reader.GetInt64(3)));
                var row2 = new WebhookEventRow(reader.GetString(4), reader.GetString(5), reader.GetString(6), Text(reader, 7), Text(reader, 8), Text(reader, 9), reader.GetFieldValue<byte[]>(10));
                claims.Add(new WebhookClaim(reader.GetInt64(0), reader.GetInt64(1), reader.GetInt32(2), age, row2, endpoint, row.Secrets, failingFor));
            }
        }

        foreach (WebhookClaim claim in claims.Skip(first))
        {
            const string take = "UPDATE webhook_deliveries SET fence = @fence, next_at = @until, lease_until = @until, first_attempt_at = COALESCE(first_attempt_at, @now) WHERE id = @id";
            Command(connection, take, ("@fence", claim.Fence), ("@until", until), ("@now", now), ("@id", claim.DeliveryId)).ExecuteNonQuery();
        }

        if (claims.Count > first && endpoint.ConsecutiveFailures > 0)
        {
            // One probe: nobody takes another before its outcome is known, or its lease is over.
            Command(connection, "UPDATE webhook_endpoints SET paused_until = @until WHERE id = @id", ("@until", until), ("@id", endpoint.Id)).ExecuteNonQuery();
        }
    }

    private static void Record(SqliteConnection connection, WebhookOutcome outcome, long now)
    {
        const string finish = """
            UPDATE webhook_deliveries SET state = @state, attempts = attempts + @attempt, lease_until = NULL, next_at = @next, finished_at = @finished, dead_reason = @reason,
              first_attempt_at = CASE WHEN @attempt = 0 AND attempts = 0 THEN NULL ELSE first_attempt_at END
            WHERE id = @id AND fence = @fence AND state = 0 AND lease_until IS NOT NULL
            """;
        const string attempt = """
            INSERT INTO webhook_attempts (delivery_id, number, recorded_at, status, duration_us, error, response)
            SELECT @id, @fence, @now, @status, @duration, @error, @response WHERE EXISTS (SELECT 1 FROM webhook_deliveries WHERE id = @id) ON CONFLICT DO NOTHING
            """;
        WebhookClaim claim = outcome.Claim;
        bool pending = outcome.State == WebhookDeliveryState.Pending;
        Command(
            connection,
            finish,
            ("@state", (int)outcome.State),
            ("@attempt", outcome.Attempt is null ? 0 : 1),
            ("@next", pending ? now + (long)outcome.Delay.TotalMilliseconds : null),
            ("@finished", pending ? null : now),
            ("@reason", outcome.DeadReason),
            ("@id", claim.DeliveryId),
            ("@fence", claim.Fence)).ExecuteNonQuery();
        if (outcome.Attempt is { } made)
        {
            Command(
                connection,
                attempt,
                ("@id", claim.DeliveryId),
                ("@fence", claim.Fence),
                ("@now", now),
                ("@status", made.Status),
                ("@duration", (long)made.Duration.TotalMicroseconds),
                ("@error", made.Error),
                ("@response", Bytes(made.Response))).ExecuteNonQuery();
        }

        RecordHealth(connection, outcome, now);
    }

    private static void RecordHealth(SqliteConnection connection, WebhookOutcome outcome, long now)
    {
        WebhookEndpoint endpoint = outcome.Claim.Endpoint;
        WebhookEndpointHealth health = outcome.Health;
        if (health.Failures == 0)
        {
            Command(connection, "UPDATE webhook_endpoints SET failures = 0, failing_since = NULL, paused_until = NULL WHERE id = @id AND failures > 0", ("@id", endpoint.Id)).ExecuteNonQuery();
        }
        else if (health.Failures is int more)
        {
            const string fail = "UPDATE webhook_endpoints SET failures = failures + @more, failing_since = COALESCE(failing_since, @now), paused_until = @until WHERE id = @id AND failures = @failures AND enabled = 1 AND url = @url";
            Command(connection, fail, ("@more", more), ("@now", now), ("@until", now + (long)health.Pause.TotalMilliseconds), ("@id", endpoint.Id), ("@failures", endpoint.ConsecutiveFailures), ("@url", endpoint.Url)).ExecuteNonQuery();
        }
        else if (endpoint.ConsecutiveFailures > 0)
        {
            // The probe came to nothing: another may be made.
            Command(connection, "UPDATE webhook_endpoints SET paused_until = @now WHERE id = @id AND failures = @failures", ("@now", now), ("@id", endpoint.Id), ("@failures", endpoint.ConsecutiveFailures)).ExecuteNonQuery();
        }

        if (health.DisabledReason is string reason)
        {
            const string disable = "UPDATE webhook_endpoints SET enabled = 0, disabled_reason = @reason, version = version + 1 WHERE id = @id AND enabled = 1 AND url = @url";
            int disabled = Command(connection, disable, ("@reason", reason), ("@id", endpoint.Id), ("@url", endpoint.Url)).ExecuteNonQuery();
            if (disabled > 0 && health.DisabledEvent is { } told)
            {
                Enqueue(connection, null, told, now);
            }
        }
    }

    private int Enqueue(SqliteConnection connection, SqliteTransaction? transaction, WebhookEventRow row)
    {
        Enqueue(connection, transaction, row, Now);
        return 0;
    }

    private static void Enqueue(SqliteConnection connection, SqliteTransaction? transaction, WebhookEventRow row, long now)
    {
        const string insert = """
            INSERT INTO webhook_events (id, type, audience, order_key, endpoint_id, trace_parent, payload, created_at)
            VALUES (@id, @type, @audience, @key, @endpoint, @trace, @payload, @now) ON CONFLICT (id) DO NOTHING
            """;
        using SqliteCommand command = Command(
            connection,
            insert,
            ("@id", row.Id),
            ("@type", row.Type),
            ("@audience", row.Audience),
            ("@key", row.OrderKey),
            ("@endpoint", row.EndpointId),
            ("@trace", row.TraceParent),
            ("@payload", Bytes(row.Payload)),
            ("@now", now));
        command.Transaction = transaction ?? command.Transaction;
        command.ExecuteNonQuery();
    }

    private async ValueTask<T> WriteAsync<T>(string pragmas, Func<SqliteConnection, T> action, CancellationToken cancellationToken)
    {
        await _writer.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            using SqliteConnection connection = Open(pragmas);
            using SqliteTransaction transaction = connection.BeginTransaction(deferred: false);
            T result = action(connection);
            transaction.Commit();
            return result;
        }
        finally
        {
            _writer.Release();
        }
    }

    private static async ValueTask Discard<T>(ValueTask<T> task) => await task.ConfigureAwait(false);

    private bool IsAny(string select, params (string Name, object? Value)[] values)
    {
        using SqliteConnection connection = Open(Deferred);
        return Command(connection, select, values).ExecuteScalar() is not null;
    }

    private static string? File(SqliteConnection connection) => raw.sqlite3_db_filename(connection.Handle, "main").utf8_to_string();

    private SqliteConnection Open(string pragmas)
    {
        var connection = new SqliteConnection(_connectionString);
        try
        {
            connection.Open();
            Command(connection, pragmas).ExecuteNonQuery();
            _file ??= File(connection);
            return connection;
        }
        catch (SqliteException exception) when (exception.SqliteErrorCode == raw.SQLITE_CANTOPEN)
        {
            connection.Dispose();
            throw new SqliteException($"{connection.DataSource}: {exception.Message}", exception.SqliteErrorCode, exception.SqliteExtendedErrorCode);
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    /// <summary>In the transaction of the connection, if there is one. Values that the text does not name are left out.</summary>
    private static SqliteCommand Command(SqliteConnection connection, string text, params (string Name, object? Value)[] values)
    {
        SqliteCommand command = connection.CreateCommand();
        command.CommandText = text;
        foreach ((string name, object? value) in values)
        {
            if (text.Contains(name, StringComparison.Ordinal))
            {
                command.Parameters.AddWithValue(name, value ?? DBNull.Value);
            }
        }

        return command;
    }

    private static WebhookEndpointRow Endpoint(SqliteDataReader reader) => new(
        new WebhookEndpoint(
            reader.GetString(0), reader.GetString(1), reader.GetString(2), reader.GetString(3).Split(' ', StringSplitOptions.RemoveEmptyEntries), reader.GetInt32(4) == 1, Text(reader, 5), reader.GetInt32(6), Time(reader, 7), Time(reader, 8), Time(reader, 9)!.Value),
        reader.GetString(10),
        reader.GetInt64(11));

    private static string Where(WebhookDeliveryFilter filter) => string.Join(" AND ", ((string?[])
    [
        "1 = 1",
        filter.Audience is null ? null : "d.endpoint_id IN (SELECT a.id FROM webhook_endpoints a WHERE a.audience = @audience)",
        filter.EndpointId is null ? null : "d.endpoint_id = @endpoint",
        filter.EventType is null ? null : "e.type = @type",
        filter.EventId is null ? null : "e.id = @event",
        filter.State is null ? null : string.Create(CultureInfo.InvariantCulture, $"d.state = {(int)filter.State}"),
        filter.DeliveryId is null ? null : "d.id = @delivery",
    ]).OfType<string>());

    private static (string, object?)[] Values(WebhookDeliveryFilter filter) =>
        [("@audience", filter.Audience), ("@endpoint", filter.EndpointId), ("@type", filter.EventType), ("@event", filter.EventId), ("@delivery", filter.DeliveryId)];

    private static string Types(IReadOnlyList<string> types) => types.Count == 0 ? "" : $" {string.Join(' ', types)} ";

    private static string? Text(SqliteDataReader reader, int column) => reader.IsDBNull(column) ? null : reader.GetString(column);

    private static DateTimeOffset? Time(SqliteDataReader reader, int column) => reader.IsDBNull(column) ? null : DateTimeOffset.FromUnixTimeMilliseconds(reader.GetInt64(column));

    private static byte[] Bytes(ReadOnlyMemory<byte> memory) => MemoryMarshal.TryGetArray(memory, out ArraySegment<byte> segment) && segment.Offset == 0 && segment.Count == segment.Array!.Length ? segment.Array : memory.ToArray();
}
