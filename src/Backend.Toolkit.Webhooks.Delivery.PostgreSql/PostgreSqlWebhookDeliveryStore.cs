using System.Data.Common;
using System.Globalization;
using Npgsql;
using NpgsqlTypes;

namespace Backend.Toolkit.Webhooks.Delivery.PostgreSql;

/// <summary>
/// Events, endpoints, deliveries and attempts in the application's PostgreSQL. For any number of workers: the clock is the database's, claims skip what others have locked, and each raises the delivery's fence. Fan-out
/// is one at a time (an advisory lock), so that the ids of deliveries grow in the order of the events. An idle poll is two reads. What the database ends because of a deadlock is tried again. Thread-safe.
/// </summary>
public sealed class PostgreSqlWebhookDeliveryStore : IWebhookDeliveryStore
{
    private const long SchemaLock = 0x6274_7764_0001;
    private const int MostTries = 5;

    private readonly NpgsqlDataSource _source;
    private readonly bool _createSchema;

    /// <summary>Makes a store; nothing is opened yet.</summary>
    /// <param name="options">The options.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options are invalid.</exception>
    public PostgreSqlWebhookDeliveryStore(PostgreSqlWebhookDeliveryStoreOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        _source = options.DataSource!;
        _createSchema = options.CreateSchema;
    }

    /// <summary>Makes the tables and indexes that are not there yet, in the first schema of the search path.</summary>
    /// <returns>SQL that may be run again.</returns>
    public static string Script() => Schema.Script;

    /// <inheritdoc/>
    public async ValueTask PrepareAsync(CancellationToken cancellationToken = default)
    {
        if (_createSchema)
        {
            await WriteAsync(
                async (connection, transaction) =>
                {
                    // Two that start together would both find no table.
                    await ExecuteAsync(connection, transaction, "SELECT pg_advisory_xact_lock($1)", [Value(SchemaLock)], cancellationToken).ConfigureAwait(false);
                    return await ExecuteAsync(connection, transaction, Schema.Script, [], cancellationToken).ConfigureAwait(false);
                },
                cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public async ValueTask EnqueueAsync(WebhookEventRow row, DbTransaction? transaction, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(row);
        if (transaction is null)
        {
            await WriteAsync((connection, own) => EnqueueAsync(connection, own, row, cancellationToken), cancellationToken).ConfigureAwait(false);
            return;
        }

        if (transaction is not NpgsqlTransaction callers)
        {
            throw new ArgumentException($"The transaction must be an NpgsqlTransaction, but is {transaction.GetType().FullName}.", nameof(transaction));
        }

        await EnqueueAsync(callers.Connection ?? throw new InvalidOperationException("The transaction has ended."), callers, row, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask<int> FanOutAsync(int limit, CancellationToken cancellationToken = default)
    {
        const string any = "SELECT EXISTS (SELECT FROM webhook_events WHERE NOT fanned_out)";

        // Taken in a statement of its own: the next one then sees all that the last holder committed. By the table, so that stores in other schemas of the database go on.
        const string take = "SELECT pg_try_advisory_xact_lock(24947, 'webhook_events'::regclass::oid::int)";
        const string insert = $"""
            WITH waiting AS MATERIALIZED (SELECT seq, type, audience, order_key, endpoint_id FROM webhook_events WHERE NOT fanned_out ORDER BY seq LIMIT $1),
            made AS (
              INSERT INTO webhook_deliveries (event_seq, endpoint_id, order_key, next_at)
              SELECT e.seq, p.id, e.order_key, now() FROM waiting e JOIN webhook_endpoints p ON p.audience = e.audience
                AND CASE WHEN e.endpoint_id IS NULL THEN p.types = '' OR position(' ' || e.type || ' ' IN p.types) > 0 ELSE p.id = e.endpoint_id END
                AND (p.enabled OR e.type <> '{WebhookEndpoints.DisabledType}')
              ORDER BY e.seq, p.id)
            UPDATE webhook_events e SET fanned_out = true FROM waiting WHERE e.seq = waiting.seq
            """;
        await using NpgsqlConnection reading = await _source.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        if (await ScalarAsync(reading, null, any, [], cancellationToken).ConfigureAwait(false) is not true)
        {
            return 0;
        }

        await using NpgsqlTransaction transaction = await reading.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
        if (await ScalarAsync(reading, transaction, take, [], cancellationToken).ConfigureAwait(false) is not true)
        {
            return 0;
        }

        int events = await ExecuteAsync(reading, transaction, insert, [Value(limit)], cancellationToken).ConfigureAwait(false);
        await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
        return events;
    }

    /// <inheritdoc/>
    public async ValueTask<IReadOnlyList<WebhookClaim>> ClaimAsync(WebhookClaimRequest request, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        await using NpgsqlConnection connection = await _source.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        List<(string Id, int Failures, int Quota)> endpoints = [];
        foreach ((string id, int failures) in await CandidatesAsync(connection, request, cancellationToken).ConfigureAwait(false))
        {
            int quota = request.Quota(id, failures);
            if (quota > 0)
            {
                endpoints.Add((id, failures, quota));
            }
        }

        if (endpoints.Count == 0)
        {
            return [];
        }

        // The limit is the largest quota and a constant: with one that differs by endpoint the planner reads and sorts all that is due.
        const string claim = """
            WITH want AS (SELECT * FROM unnest($1::text[], $2::int[], $3::int[]) AS w (id, quota, failures)),
            probe AS (
              UPDATE webhook_endpoints p SET paused_until = now() + $4
              FROM (SELECT x.id FROM webhook_endpoints x JOIN want w ON w.id = x.id
                    WHERE w.failures > 0 AND x.failures > 0 AND x.enabled AND (x.paused_until IS NULL OR x.paused_until <= now())
                    ORDER BY x.id FOR NO KEY UPDATE OF x SKIP LOCKED) one
              WHERE p.id = one.id RETURNING p.id),
            admitted AS MATERIALIZED (
              SELECT w.id, CASE WHEN w.failures > 0 THEN 1 ELSE w.quota END AS quota FROM want w JOIN webhook_endpoints p ON p.id = w.id
              WHERE p.enabled AND p.failures = w.failures AND (w.failures = 0 OR w.id IN (SELECT id FROM probe))),
            due AS MATERIALIZED (
              SELECT a.quota, head.id, row_number() OVER (PARTITION BY a.id ORDER BY head.next_at, head.id) AS place FROM admitted a CROSS JOIN LATERAL (
                SELECT d.id, d.next_at FROM webhook_deliveries d
                WHERE d.endpoint_id = a.id AND d.state = 0 AND d.next_at <= now()
                  AND (d.order_key IS NULL OR NOT EXISTS (
                    SELECT FROM webhook_deliveries o WHERE o.endpoint_id = d.endpoint_id AND o.order_key = d.order_key AND o.state = 0 AND o.id <> d.id AND (o.id < d.id OR o.lease_until > now())))
                ORDER BY d.next_at, d.id LIMIT $5 FOR UPDATE OF d SKIP LOCKED) head),
            picked AS (SELECT id FROM due WHERE place <= quota),
            taken AS (
              UPDATE webhook_deliveries d SET fence = d.fence + 1, next_at = now() + $4, lease_until = now() + $4, first_attempt_at = COALESCE(d.first_attempt_at, now())
              FROM picked WHERE d.id = picked.id
              RETURNING d.id, d.fence, d.attempts, now() - d.first_attempt_at AS age, d.event_seq, d.endpoint_id)
            SELECT t.id, t.fence, t.attempts, t.age, e.id, e.type, e.audience, e.order_key, e.endpoint_id, e.trace_parent, e.payload, now() - p.failing_since,
              p.id, p.audience, p.url, p.types, p.enabled, p.disabled_reason, p.failures, p.failing_since, p.paused_until, p.created_at, p.secrets, p.version
            FROM taken t JOIN webhook_events e ON e.seq = t.event_seq JOIN webhook_endpoints p ON p.id = t.endpoint_id ORDER BY t.id
            """;
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
        var claims = new List<WebhookClaim>();
        NpgsqlParameter[] values = [Value(endpoints.Select(endpoint => endpoint.Id).ToArray()), Value(endpoints.Select(endpoint => endpoint.Quota).ToArray()), Value(endpoints.Select(endpoint => endpoint.Failures).ToArray()), Value(request.Lease), Value(endpoints.Max(endpoint => endpoint.Quota))];
        await using (var batch = new NpgsqlBatch(connection, transaction) { BatchCommands = { BatchCommand(ClaimingLock), BatchCommand(claim, values) } })
        await using (NpgsqlDataReader reader = await batch.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false))
        {
            await reader.NextResultAsync(cancellationToken).ConfigureAwait(false);
            while (await reader.ReadAsync(cancellationToken).ConfigureAwait(false))
            {
                claims.Add(Claim(reader));
            }
        }

        // Probes for which nothing could be taken: what is due waits behind the head of its key.
        string[] unused = [.. endpoints.Where(endpoint => endpoint.Failures > 0).Select(endpoint => endpoint.Id).Except(claims.Select(taken => taken.Endpoint.Id))];
        if (unused.Length > 0)
        {
            const string free = "UPDATE webhook_endpoints SET paused_until = now() WHERE id = ANY ($1) AND paused_until = now() + $2";
            await ExecuteAsync(connection, transaction, free, [Value(unused), Value(request.Lease)], cancellationToken).ConfigureAwait(false);
        }

        await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
        return claims;
    }

    /// <inheritdoc/>
    public async ValueTask RecordAsync(IReadOnlyList<WebhookOutcome> outcomes, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(outcomes);
        const string finish = """
            UPDATE webhook_deliveries d SET state = w.state, attempts = d.attempts + w.attempt, lease_until = NULL,
              next_at = CASE WHEN w.state = 0 THEN now() + w.delay END, finished_at = CASE WHEN w.state <> 0 THEN now() END, dead_reason = w.reason,
              first_attempt_at = CASE WHEN w.attempt = 0 AND d.attempts = 0 THEN NULL ELSE d.first_attempt_at END
            FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::int[], $5::interval[], $6::text[]) AS w (id, fence, state, attempt, delay, reason)
            WHERE d.id = w.id AND d.fence = w.fence AND d.state = 0 AND d.lease_until IS NOT NULL
            """;
        const string attempts = """
            INSERT INTO webhook_attempts (delivery_id, number, status, duration, error, response)
            SELECT w.id, w.fence, w.status, w.duration, w.error, w.response FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::interval[], $5::text[], $6::bytea[]) AS w (id, fence, status, duration, error, response)
            WHERE EXISTS (SELECT FROM webhook_deliveries d WHERE d.id = w.id) ON CONFLICT DO NOTHING
            """;
        WebhookOutcome[] made = [.. outcomes.Where(outcome => outcome.Attempt is not null)];
        await WriteAsync(
            async (connection, transaction) =>
            {
                await using var batch = new NpgsqlBatch(connection, transaction);
                batch.BatchCommands.Add(BatchCommand(
                    finish,
                    Value(outcomes.Select(outcome => outcome.Claim.DeliveryId).ToArray()),
                    Value(outcomes.Select(outcome => outcome.Claim.Fence).ToArray()),
                    Value(outcomes.Select(outcome => (short)outcome.State).ToArray()),
                    Value(outcomes.Select(outcome => outcome.Attempt is null ? 0 : 1).ToArray()),
                    Value(outcomes.Select(outcome => outcome.Delay).ToArray()),
                    Value(outcomes.Select(outcome => outcome.DeadReason).ToArray())));
                batch.BatchCommands.Add(BatchCommand(
                    attempts,
                    Value(made.Select(outcome => outcome.Claim.DeliveryId).ToArray()),
                    Value(made.Select(outcome => outcome.Claim.Fence).ToArray()),
                    Value(made.Select(outcome => outcome.Attempt!.Status).ToArray()),
                    Value(made.Select(outcome => outcome.Attempt!.Duration).ToArray()),
                    Value(made.Select(outcome => outcome.Attempt!.Error).ToArray()),
                    Value(made.Select(outcome => outcome.Attempt!.Response.ToArray()).ToArray())));
                await batch.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
                foreach (WebhookEventRow told in await RecordHealthAsync(connection, transaction, outcomes, cancellationToken).ConfigureAwait(false))
                {
                    await EnqueueAsync(connection, transaction, told, cancellationToken).ConfigureAwait(false);
                }

                return 0;
            },
            cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask<int> MaintainAsync(TimeSpan retention, int limit, CancellationToken cancellationToken = default)
    {
        const string bury = """
            UPDATE webhook_deliveries d SET state = 2, next_at = NULL, lease_until = NULL, finished_at = now(), dead_reason = 'the endpoint is disabled: ' || COALESCE(x.disabled_reason, '')
            FROM (SELECT o.id, p.disabled_reason FROM webhook_endpoints p JOIN webhook_deliveries o ON o.endpoint_id = p.id
                  WHERE NOT p.enabled AND o.state = 0 AND (o.lease_until IS NULL OR o.lease_until <= now()) LIMIT $1 FOR UPDATE OF o SKIP LOCKED) x
            WHERE d.id = x.id
            """;
        const string finished = """
            WITH old AS (DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM webhook_deliveries WHERE state <> 0 AND finished_at < now() - $2 LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING id),
            gone AS (DELETE FROM webhook_attempts WHERE delivery_id IN (SELECT id FROM old))
            SELECT count(*) FROM old
            """;
        const string events = """
            DELETE FROM webhook_events WHERE seq IN (SELECT seq FROM webhook_events e WHERE fanned_out AND created_at < now() - $2
              AND NOT EXISTS (SELECT FROM webhook_deliveries d WHERE d.event_seq = e.seq) LIMIT $1 FOR UPDATE SKIP LOCKED)
            """;
        await using NpgsqlConnection connection = await _source.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        int buried = await ExecuteAsync(connection, null, bury, [Value(limit)], cancellationToken).ConfigureAwait(false);
        long deliveries = (long)(await ScalarAsync(connection, null, finished, [Value(limit), Value(retention)], cancellationToken).ConfigureAwait(false))!;
        int rows = await ExecuteAsync(connection, null, events, [Value(limit), Value(retention)], cancellationToken).ConfigureAwait(false);
        return Math.Max(Math.Max(buried, rows), (int)deliveries);
    }

    /// <inheritdoc/>
    public async ValueTask<TimeSpan> OldestDueAsync(CancellationToken cancellationToken = default)
    {
        const string oldest = """
            SELECT now() - MIN(at) FROM (
              SELECT (SELECT d.next_at FROM webhook_deliveries d WHERE d.endpoint_id = p.id AND d.state = 0 AND d.next_at <= now()
                AND (d.order_key IS NULL OR NOT EXISTS (
                  SELECT FROM webhook_deliveries o WHERE o.endpoint_id = d.endpoint_id AND o.order_key = d.order_key AND o.state = 0 AND o.id <> d.id AND (o.id < d.id OR o.lease_until > now())))
                ORDER BY d.next_at LIMIT 1) AS at
              FROM webhook_endpoints p WHERE p.enabled AND (p.paused_until IS NULL OR p.paused_until <= now())
              UNION ALL SELECT created_at FROM (SELECT created_at FROM webhook_events WHERE NOT fanned_out ORDER BY seq LIMIT 1) e) ages
            """;
        await using NpgsqlConnection connection = await _source.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        return await ScalarAsync(connection, null, oldest, [], cancellationToken).ConfigureAwait(false) is TimeSpan age && age > TimeSpan.Zero ? age : TimeSpan.Zero;
    }

    /// <inheritdoc/>
    public async ValueTask InsertEndpointAsync(WebhookEndpointRow row, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(row);
        const string insert = "INSERT INTO webhook_endpoints (id, audience, url, types, secrets, enabled, disabled_reason) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        WebhookEndpoint endpoint = row.Endpoint;
        await using NpgsqlConnection connection = await _source.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await ExecuteAsync(connection, null, insert, [Value(endpoint.Id), Value(endpoint.Audience), Value(endpoint.Url), Value(Types(endpoint.Types)), Value(row.Secrets), Value(endpoint.IsEnabled), Value(endpoint.DisabledReason)], cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask<bool> UpdateEndpointAsync(WebhookEndpointRow row, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(row);
        const string update = """
            UPDATE webhook_endpoints SET url = $3, types = $4, secrets = $5, version = version + 1, disabled_reason = $7,
              failures = CASE WHEN $6 > enabled OR $3 <> url THEN 0 ELSE failures END, failing_since = CASE WHEN $6 > enabled OR $3 <> url THEN NULL ELSE failing_since END,
              paused_until = CASE WHEN $6 > enabled OR $3 <> url THEN NULL ELSE paused_until END, enabled = $6
            WHERE id = $1 AND version = $2
            """;
        WebhookEndpoint endpoint = row.Endpoint;
        await using NpgsqlConnection connection = await _source.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        return await ExecuteAsync(connection, null, update, [Value(endpoint.Id), Value(row.Version), Value(endpoint.Url), Value(Types(endpoint.Types)), Value(row.Secrets), Value(endpoint.IsEnabled), Value(endpoint.DisabledReason)], cancellationToken).ConfigureAwait(false) > 0;
    }

    /// <inheritdoc/>
    public async ValueTask<WebhookEndpointRow?> FindEndpointAsync(string endpointId, CancellationToken cancellationToken = default) =>
        (await ReadAsync($"SELECT {EndpointColumns} FROM webhook_endpoints WHERE id = $1", [Value(endpointId)], static reader => Endpoint(reader), cancellationToken).ConfigureAwait(false)).FirstOrDefault();

    /// <inheritdoc/>
    public async ValueTask<IReadOnlyList<WebhookEndpoint>> ListEndpointsAsync(string? audience, string afterId, int limit, CancellationToken cancellationToken = default)
    {
        string select = $"SELECT {EndpointColumns} FROM webhook_endpoints WHERE {(audience is null ? "$1::text IS NULL" : "audience = $1")} AND id > $2 ORDER BY id LIMIT $3";
        return await ReadAsync(select, [Value(audience), Value(afterId), Value(limit)], static reader => Endpoint(reader).Endpoint, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask<IReadOnlyList<WebhookDelivery>> ListDeliveriesAsync(WebhookDeliveryFilter filter, long? beforeId, int limit, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(filter);
        (string where, List<NpgsqlParameter> values) = Where(filter, Value(beforeId ?? long.MaxValue), Value(limit));
        string select = $"""
            SELECT d.id, e.id, e.type, d.endpoint_id, d.order_key, d.state, d.attempts, d.next_at, d.finished_at, d.dead_reason
            FROM webhook_deliveries d JOIN webhook_events e ON e.seq = d.event_seq WHERE {where} AND d.id < $1 ORDER BY d.id DESC LIMIT $2
            """;
        return await ReadAsync(
            select,
            values,
            static reader => new WebhookDelivery(
                reader.GetInt64(0), reader.GetString(1), reader.GetString(2), reader.GetString(3), Text(reader, 4), (WebhookDeliveryState)reader.GetInt16(5), reader.GetInt32(6), Time(reader, 7), Time(reader, 8), Text(reader, 9)),
            cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask<IReadOnlyList<WebhookAttempt>> ListAttemptsAsync(long deliveryId, CancellationToken cancellationToken = default) => await ReadAsync(
        "SELECT number, recorded_at, status, duration, error, response FROM webhook_attempts WHERE delivery_id = $1 ORDER BY number",
        [Value(deliveryId)],
        static reader => new WebhookAttempt(
            reader.GetInt64(0), Time(reader, 1)!.Value, reader.IsDBNull(2) ? null : reader.GetInt32(2), reader.GetFieldValue<TimeSpan>(3), Text(reader, 4), reader.GetFieldValue<byte[]>(5)),
        cancellationToken).ConfigureAwait(false);

    /// <inheritdoc/>
    public async ValueTask<long> RequeueAsync(WebhookDeliveryFilter filter, TimeSpan spacing, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(filter);
        (string where, List<NpgsqlParameter> values) = Where(filter, Value(spacing));
        string update = $"""
            UPDATE webhook_deliveries x SET state = 0, attempts = 0, first_attempt_at = NULL, finished_at = NULL, dead_reason = NULL, lease_until = NULL, next_at = now() + again.n * $1
            FROM (SELECT d.id, row_number() OVER (ORDER BY d.id) - 1 AS n FROM webhook_deliveries d JOIN webhook_events e ON e.seq = d.event_seq JOIN webhook_endpoints p ON p.id = d.endpoint_id
                  WHERE d.state <> 0 AND p.enabled AND {where}) again
            WHERE x.id = again.id AND x.state <> 0
            """;
        return await WriteAsync(
            async (connection, transaction) =>
            {
                int count = await ExecuteAsync(connection, transaction, update, values, cancellationToken).ConfigureAwait(false);
                await ExecuteAsync(connection, transaction, RequeueLock, [], cancellationToken).ConfigureAwait(false);
                return count;
            },
            cancellationToken).ConfigureAwait(false);
    }

    // A claim that began before a redrive sees no head in front of what it takes, and the next claim would not see what it took: the redrive is committed when no claim is being made.
    private const string ClaimingLock = "SELECT pg_advisory_xact_lock_shared(24948, 'webhook_deliveries'::regclass::oid::int)";
    private const string RequeueLock = "SELECT pg_advisory_xact_lock(24948, 'webhook_deliveries'::regclass::oid::int)";

    private const string EndpointColumns = "id, audience, url, types, enabled, disabled_reason, failures, failing_since, paused_until, created_at, secrets, version";

    /// <summary>Endpoints with due work, by a seek from one to the next.</summary>
    private static async Task<List<(string Id, int Failures)>> CandidatesAsync(NpgsqlConnection connection, WebhookClaimRequest request, CancellationToken cancellationToken)
    {
        const string select = """
            WITH RECURSIVE c (id) AS (
              (SELECT endpoint_id FROM webhook_deliveries WHERE state = 0 AND endpoint_id > $1 AND ($2 = '' OR endpoint_id <= $2) ORDER BY endpoint_id LIMIT 1)
              UNION ALL
              SELECT (SELECT d.endpoint_id FROM webhook_deliveries d WHERE d.state = 0 AND d.endpoint_id > c.id AND ($2 = '' OR d.endpoint_id <= $2) ORDER BY d.endpoint_id LIMIT 1) FROM c WHERE c.id IS NOT NULL
            )
            SELECT p.id, p.failures FROM c JOIN LATERAL (SELECT x.id, x.failures FROM webhook_endpoints x WHERE x.id = c.id AND x.enabled AND (x.paused_until IS NULL OR x.paused_until <= now())) p ON true
            WHERE EXISTS (SELECT FROM webhook_deliveries d WHERE d.endpoint_id = c.id AND d.state = 0 AND d.next_at <= now())
            LIMIT $3
            """;
        var rows = new List<(string, int)>();
        (string After, string To)[] parts = request.AfterEndpointId.Length == 0 ? [("", "")] : [(request.AfterEndpointId, ""), ("", request.AfterEndpointId)];
        foreach ((string after, string to) in parts)
        {
            if (rows.Count < request.MaxEndpoints)
            {
                await using NpgsqlCommand command = Command(connection, null, select, [Value(after), Value(to), Value(request.MaxEndpoints - rows.Count)]);
                await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
                while (await reader.ReadAsync(cancellationToken).ConfigureAwait(false))
                {
                    rows.Add((reader.GetString(0), reader.GetInt32(1)));
                }
            }
        }

        return rows;
    }

    private static WebhookClaim Claim(NpgsqlDataReader reader)
    {
        var row = new WebhookEventRow(reader.GetString(4), reader.GetString(5), reader.GetString(6), Text(reader, 7), Text(reader, 8), Text(reader, 9), reader.GetFieldValue<byte[]>(10));
        TimeSpan? failingFor = reader.IsDBNull(11) ? null : reader.GetFieldValue<TimeSpan>(11);
        WebhookEndpointRow endpoint = Endpoint(reader, 12);
        return new WebhookClaim(reader.GetInt64(0), reader.GetInt64(1), reader.GetInt32(2), reader.GetFieldValue<TimeSpan>(3), row, endpoint.Endpoint, endpoint.Secrets, failingFor);
    }

    /// <summary>One statement for all endpoints, locked in the order of their ids: two workers that record never wait for each other in a circle.</summary>
    private static async Task<List<WebhookEventRow>> RecordHealthAsync(NpgsqlConnection connection, NpgsqlTransaction transaction, IReadOnlyList<WebhookOutcome> outcomes, CancellationToken cancellationToken)
    {
        const string update = """
            WITH w AS (SELECT * FROM unnest($1::text[], $2::int[], $3::int[], $4::interval[], $5::text[], $6::text[]) AS w (id, seen, more, pause, reason, url)),
            locked AS MATERIALIZED (
              SELECT x.id, x.failures, x.enabled, x.url = w.url AS same, x.enabled AND w.reason IS NOT NULL AND x.url = w.url AS ends, x.failing_since, x.paused_until FROM webhook_endpoints x JOIN w ON w.id = x.id
              WHERE w.reason IS NOT NULL OR w.more > 0 OR x.failures > 0 ORDER BY x.id FOR NO KEY UPDATE OF x)
            UPDATE webhook_endpoints p SET
              failures = CASE WHEN w.more = 0 THEN 0 WHEN w.more > 0 AND l.failures = w.seen AND l.enabled AND l.same THEN l.failures + w.more ELSE l.failures END,
              failing_since = CASE WHEN w.more = 0 THEN NULL WHEN w.more > 0 AND l.failures = w.seen AND l.enabled AND l.same THEN COALESCE(l.failing_since, now()) ELSE l.failing_since END,
              paused_until = CASE WHEN w.more = 0 THEN NULL WHEN w.more > 0 AND l.failures = w.seen AND l.enabled AND l.same THEN now() + w.pause WHEN w.more IS NULL AND l.failures = w.seen THEN now() ELSE l.paused_until END,
              enabled = l.enabled AND NOT l.ends,
              version = p.version + CASE WHEN l.ends THEN 1 ELSE 0 END,
              disabled_reason = CASE WHEN l.ends THEN w.reason ELSE p.disabled_reason END
            FROM w JOIN locked l ON l.id = w.id
            WHERE p.id = w.id
            RETURNING p.id, l.ends
            """;

        // Of one endpoint: what disables it goes first, then a success, then the first failure.
        WebhookOutcome[] one = [.. outcomes
            .Where(outcome => outcome.Health.Failures is not null || outcome.Claim.Endpoint.ConsecutiveFailures > 0)
            .GroupBy(outcome => outcome.Claim.Endpoint.Id)
            .Select(group => group.MinBy(outcome => outcome.Health.DisabledReason is not null ? -1 : outcome.Health.Failures is int failures ? Math.Min(failures, 1) : 2)!)];
        var told = new List<WebhookEventRow>();
        if (one.Length == 0)
        {
            return told;
        }

        NpgsqlParameter[] values =
        [
            Value(one.Select(outcome => outcome.Claim.Endpoint.Id).ToArray()),
            Value(one.Select(outcome => outcome.Claim.Endpoint.ConsecutiveFailures).ToArray()),
            Value(one.Select(outcome => outcome.Health.Failures).ToArray()),
            Value(one.Select(outcome => outcome.Health.Pause).ToArray()),
            Value(one.Select(outcome => outcome.Health.DisabledReason).ToArray()),
            Value(one.Select(outcome => outcome.Claim.Endpoint.Url).ToArray()),
        ];
        await using NpgsqlCommand command = Command(connection, transaction, update, values);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
        while (await reader.ReadAsync(cancellationToken).ConfigureAwait(false))
        {
            if (reader.GetBoolean(1) && one.First(outcome => outcome.Claim.Endpoint.Id == reader.GetString(0)).Health.DisabledEvent is { } disabled)
            {
                told.Add(disabled);
            }
        }

        return told;
    }

    private static async Task<int> EnqueueAsync(NpgsqlConnection connection, NpgsqlTransaction? transaction, WebhookEventRow row, CancellationToken cancellationToken)
    {
        const string insert = "INSERT INTO webhook_events (id, type, audience, order_key, endpoint_id, trace_parent, payload) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING";
        await using var command = new NpgsqlCommand(insert, connection, transaction);
        foreach (string? text in (ReadOnlySpan<string?>)[row.Id, row.Type, row.Audience, row.OrderKey, row.EndpointId, row.TraceParent])
        {
            command.Parameters.Add(Value(text));
        }

        command.Parameters.Add(new NpgsqlParameter<ReadOnlyMemory<byte>> { TypedValue = row.Payload, NpgsqlDbType = NpgsqlDbType.Bytea });
        return await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>In a transaction that is tried again when the database ended it because of another.</summary>
    private async Task<T> WriteAsync<T>(Func<NpgsqlConnection, NpgsqlTransaction, Task<T>> action, CancellationToken cancellationToken)
    {
        for (int tries = 1; ; tries++)
        {
            try
            {
                await using NpgsqlConnection connection = await _source.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
                await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync(cancellationToken).ConfigureAwait(false);
                T result = await action(connection, transaction).ConfigureAwait(false);
                await transaction.CommitAsync(cancellationToken).ConfigureAwait(false);
                return result;
            }
            catch (PostgresException exception) when (exception.SqlState is PostgresErrorCodes.DeadlockDetected or PostgresErrorCodes.SerializationFailure && tries < MostTries)
            {
                // The other one has gone on by now.
            }
        }
    }

    private async Task<List<T>> ReadAsync<T>(string text, IEnumerable<NpgsqlParameter> values, Func<NpgsqlDataReader, T> read, CancellationToken cancellationToken)
    {
        await using NpgsqlConnection connection = await _source.OpenConnectionAsync(cancellationToken).ConfigureAwait(false);
        await using NpgsqlCommand command = Command(connection, null, text, values);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync(cancellationToken).ConfigureAwait(false);
        var rows = new List<T>();
        while (await reader.ReadAsync(cancellationToken).ConfigureAwait(false))
        {
            rows.Add(read(reader));
        }

        return rows;
    }

    private static async Task<int> ExecuteAsync(NpgsqlConnection connection, NpgsqlTransaction? transaction, string text, IEnumerable<NpgsqlParameter> values, CancellationToken cancellationToken)
    {
        await using NpgsqlCommand command = Command(connection, transaction, text, values);
        return await command.ExecuteNonQueryAsync(cancellationToken).ConfigureAwait(false);
    }

    private static async Task<object?> ScalarAsync(NpgsqlConnection connection, NpgsqlTransaction? transaction, string text, IEnumerable<NpgsqlParameter> values, CancellationToken cancellationToken)
    {
        await using NpgsqlCommand command = Command(connection, transaction, text, values);
        return await command.ExecuteScalarAsync(cancellationToken).ConfigureAwait(false);
    }

    private static NpgsqlCommand Command(NpgsqlConnection connection, NpgsqlTransaction? transaction, string text, IEnumerable<NpgsqlParameter> values)
    {
        var command = new NpgsqlCommand(text, connection, transaction);
        foreach (NpgsqlParameter value in values)
        {
            // One that was used by a command that was ended belongs to it.
            command.Parameters.Add(value.Clone());
        }

        return command;
    }

    private static NpgsqlBatchCommand BatchCommand(string text, params ReadOnlySpan<NpgsqlParameter> values)
    {
        var command = new NpgsqlBatchCommand(text);
        foreach (NpgsqlParameter value in values)
        {
            command.Parameters.Add(value);
        }

        return command;
    }

    private static NpgsqlParameter<T> Value<T>(T value) => new() { TypedValue = value };

    private static NpgsqlParameter Value(string? value) => new() { NpgsqlDbType = NpgsqlDbType.Text, Value = (object?)value ?? DBNull.Value };

    private static (string Where, List<NpgsqlParameter> Values) Where(WebhookDeliveryFilter filter, params IEnumerable<NpgsqlParameter> first)
    {
        List<NpgsqlParameter> values = [.. first];
        List<string> terms = ["true"];
        if (filter.Audience is not null)
        {
            // By the endpoints, which have an index for it; an endpoint gets events of its own audience only.
            values.Add(Value(filter.Audience));
            terms.Add(string.Create(CultureInfo.InvariantCulture, $"d.endpoint_id IN (SELECT a.id FROM webhook_endpoints a WHERE a.audience = ${values.Count})"));
        }

        foreach ((string column, string? value) in new[] { ("d.endpoint_id", filter.EndpointId), ("e.type", filter.EventType), ("e.id", filter.EventId) })
        {
            if (value is not null)
            {
                values.Add(Value(value));
                terms.Add(string.Create(CultureInfo.InvariantCulture, $"{column} = ${values.Count}"));
            }
        }

        if (filter.State is { } state)
        {
            terms.Add(string.Create(CultureInfo.InvariantCulture, $"d.state = {(int)state}"));
        }

        if (filter.DeliveryId is long delivery)
        {
            values.Add(Value(delivery));
            terms.Add(string.Create(CultureInfo.InvariantCulture, $"d.id = ${values.Count}"));
        }

        return (string.Join(" AND ", terms), values);
    }

    private static WebhookEndpointRow Endpoint(NpgsqlDataReader reader, int at = 0) => new(
        new WebhookEndpoint(
            reader.GetString(at),
            reader.GetString(at + 1),
            reader.GetString(at + 2),
            reader.GetString(at + 3).Split(' ', StringSplitOptions.RemoveEmptyEntries),
            reader.GetBoolean(at + 4),
            Text(reader, at + 5),
            reader.GetInt32(at + 6),
            Time(reader, at + 7),
            Time(reader, at + 8),
            Time(reader, at + 9)!.Value),
        reader.GetString(at + 10),
        reader.GetInt64(at + 11));

    private static string Types(IReadOnlyList<string> types) => types.Count == 0 ? "" : $" {string.Join(' ', types)} ";

    private static string? Text(NpgsqlDataReader reader, int column) => reader.IsDBNull(column) ? null : reader.GetString(column);

    private static DateTimeOffset? Time(NpgsqlDataReader reader, int column) => reader.IsDBNull(column) ? null : reader.GetFieldValue<DateTimeOffset>(column);
}
