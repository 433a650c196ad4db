using System.Data.Common;
using Npgsql;

namespace Backend.Toolkit.Webhooks.Delivery.PostgreSql.Tests;

public sealed class PostgreSqlWebhookDeliveryStoreConformanceTests(PostgreSqlServer server) : WebhookDeliveryStoreConformance
{
    private PostgreSqlSchema _schema = null!;

    public override async ValueTask InitializeAsync()
    {
        _schema = await PostgreSqlSchema.CreateAsync(server);
        await base.InitializeAsync();
    }

    public override async ValueTask DisposeAsync()
    {
        await _schema.DisposeAsync();
        await base.DisposeAsync();
    }

    protected override ValueTask<IWebhookDeliveryStore> OpenAsync() => new(new PostgreSqlWebhookDeliveryStore(new() { Name = "store", DataSource = _schema.Source }));

    protected override async ValueTask<DbConnection> ConnectAsync() => await _schema.Source.OpenConnectionAsync();

    /// <summary>The clock is the database's, so time passes by making all that is stored older.</summary>
    protected override async ValueTask PassAsync(TimeSpan time)
    {
        const string older = """
            UPDATE webhook_endpoints SET failing_since = failing_since - $1, paused_until = paused_until - $1, created_at = created_at - $1;
            UPDATE webhook_events SET created_at = created_at - $1;
            UPDATE webhook_deliveries SET next_at = next_at - $1, lease_until = lease_until - $1, first_attempt_at = first_attempt_at - $1, finished_at = finished_at - $1;
            UPDATE webhook_attempts SET recorded_at = recorded_at - $1
            """;
        await using NpgsqlConnection connection = await _schema.Source.OpenConnectionAsync();
        foreach (string text in older.Split(';'))
        {
            await using var command = new NpgsqlCommand(text, connection) { Parameters = { new NpgsqlParameter<TimeSpan> { TypedValue = time } } };
            await command.ExecuteNonQueryAsync();
        }
    }
}
