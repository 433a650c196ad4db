namespace Backend.Toolkit.Webhooks.Delivery.Sqlite;

/// <summary>Times are milliseconds since 1970. An id of a delivery never comes twice, and grows in the order of its key.</summary>
internal static class Schema
{
    public const string Script = """
        CREATE TABLE IF NOT EXISTS webhook_endpoints (
          id TEXT NOT NULL PRIMARY KEY,
          audience TEXT NOT NULL,
          url TEXT NOT NULL,
          types TEXT NOT NULL,
          secrets TEXT NOT NULL,
          version INTEGER NOT NULL DEFAULT 0,
          enabled INTEGER NOT NULL DEFAULT 1,
          disabled_reason TEXT,
          failures INTEGER NOT NULL DEFAULT 0,
          failing_since INTEGER,
          paused_until INTEGER,
          created_at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX IF NOT EXISTS webhook_endpoints_audience ON webhook_endpoints (audience, id);
        CREATE INDEX IF NOT EXISTS webhook_endpoints_disabled ON webhook_endpoints (id) WHERE enabled = 0;

        CREATE TABLE IF NOT EXISTS webhook_events (
          seq INTEGER PRIMARY KEY AUTOINCREMENT,
          id TEXT NOT NULL UNIQUE,
          type TEXT NOT NULL,
          audience TEXT NOT NULL,
          order_key TEXT,
          endpoint_id TEXT,
          trace_parent TEXT,
          payload BLOB NOT NULL,
          created_at INTEGER NOT NULL,
          fanned_out INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE INDEX IF NOT EXISTS webhook_events_waiting ON webhook_events (seq) WHERE fanned_out = 0;
        CREATE INDEX IF NOT EXISTS webhook_events_old ON webhook_events (created_at) WHERE fanned_out = 1;

        CREATE TABLE IF NOT EXISTS webhook_deliveries (
          id INTEGER PRIMARY KEY AUTOINCREMENT,
          event_seq INTEGER NOT NULL,
          endpoint_id TEXT NOT NULL,
          order_key TEXT,
          state INTEGER NOT NULL DEFAULT 0,
          attempts INTEGER NOT NULL DEFAULT 0,
          fence INTEGER NOT NULL DEFAULT 0,
          next_at INTEGER,
          lease_until INTEGER,
          first_attempt_at INTEGER,
          finished_at INTEGER,
          dead_reason TEXT
        ) STRICT;
        CREATE INDEX IF NOT EXISTS webhook_deliveries_due ON webhook_deliveries (endpoint_id, next_at, id) WHERE state = 0;
        CREATE INDEX IF NOT EXISTS webhook_deliveries_order ON webhook_deliveries (endpoint_id, order_key, id) WHERE state = 0 AND order_key IS NOT NULL;
        CREATE INDEX IF NOT EXISTS webhook_deliveries_finished ON webhook_deliveries (finished_at) WHERE state <> 0;
        CREATE INDEX IF NOT EXISTS webhook_deliveries_dead ON webhook_deliveries (endpoint_id, id) WHERE state = 2;
        CREATE INDEX IF NOT EXISTS webhook_deliveries_endpoint ON webhook_deliveries (endpoint_id, id);
        CREATE INDEX IF NOT EXISTS webhook_deliveries_event ON webhook_deliveries (event_seq);

        CREATE TABLE IF NOT EXISTS webhook_attempts (
          delivery_id INTEGER NOT NULL,
          number INTEGER NOT NULL,
          recorded_at INTEGER NOT NULL,
          status INTEGER,
          duration_us INTEGER NOT NULL,
          error TEXT,
          response BLOB NOT NULL,
          PRIMARY KEY (delivery_id, number)
        ) STRICT;

        """;
}
