namespace Backend.Toolkit.Webhooks.Delivery.PostgreSql;

/// <summary>Ids of endpoints compare by bytes, whatever the database's collation: they are walked in their order. An id of a delivery grows in the order of its key.</summary>
internal static class Schema
{
    public const string Script = """
        CREATE TABLE IF NOT EXISTS webhook_endpoints (
          id text COLLATE "C" PRIMARY KEY,
          audience text NOT NULL,
          url text NOT NULL,
          types text NOT NULL,
          secrets text NOT NULL,
          version bigint NOT NULL DEFAULT 0,
          enabled boolean NOT NULL DEFAULT true,
          disabled_reason text,
          failures integer NOT NULL DEFAULT 0,
          failing_since timestamptz,
          paused_until timestamptz,
          created_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE INDEX IF NOT EXISTS webhook_endpoints_audience ON webhook_endpoints (audience, id);
        CREATE INDEX IF NOT EXISTS webhook_endpoints_disabled ON webhook_endpoints (id) WHERE NOT enabled;

        CREATE TABLE IF NOT EXISTS webhook_events (
          seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
          id text COLLATE "C" NOT NULL UNIQUE,
          type text NOT NULL,
          audience text NOT NULL,
          order_key text,
          endpoint_id text COLLATE "C",
          trace_parent text,
          payload bytea NOT NULL,
          created_at timestamptz NOT NULL DEFAULT now(),
          fanned_out boolean NOT NULL DEFAULT false
        );
        CREATE INDEX IF NOT EXISTS webhook_events_waiting ON webhook_events (seq) WHERE NOT fanned_out;
        CREATE INDEX IF NOT EXISTS webhook_events_old ON webhook_events (created_at) WHERE fanned_out;

        CREATE TABLE IF NOT EXISTS webhook_deliveries (
          id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
          event_seq bigint NOT NULL,
          endpoint_id text COLLATE "C" NOT NULL,
          order_key text,
          state smallint NOT NULL DEFAULT 0,
          attempts integer NOT NULL DEFAULT 0,
          fence bigint NOT NULL DEFAULT 0,
          next_at timestamptz,
          lease_until timestamptz,
          first_attempt_at timestamptz,
          finished_at timestamptz,
          dead_reason text
        ) WITH (fillfactor = 80);
        CREATE INDEX IF NOT EXISTS webhook_deliveries_due ON webhook_deliveries (endpoint_id, next_at, id) WHERE state = 0;
        CREATE INDEX IF NOT EXISTS webhook_deliveries_order ON webhook_deliveries (endpoint_id, order_key, id) WHERE state = 0 AND order_key IS NOT NULL;
        CREATE INDEX IF NOT EXISTS webhook_deliveries_finished ON webhook_deliveries (finished_at) WHERE state <> 0;
        CREATE INDEX IF NOT EXISTS webhook_deliveries_dead ON webhook_deliveries (endpoint_id, id) WHERE state = 2;
        CREATE INDEX IF NOT EXISTS webhook_deliveries_endpoint ON webhook_deliveries (endpoint_id, id);
        CREATE INDEX IF NOT EXISTS webhook_deliveries_event ON webhook_deliveries (event_seq);

        CREATE TABLE IF NOT EXISTS webhook_attempts (
          delivery_id bigint NOT NULL,
          number bigint NOT NULL,
          recorded_at timestamptz NOT NULL DEFAULT now(),
          status integer,
          duration interval NOT NULL,
          error text,
          response bytea NOT NULL,
          PRIMARY KEY (delivery_id, number)
        );

        """;
}
