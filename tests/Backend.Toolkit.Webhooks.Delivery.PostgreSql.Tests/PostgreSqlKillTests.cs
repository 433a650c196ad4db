using System.Data.Common;
using Npgsql;

namespace Backend.Toolkit.Webhooks.Delivery.PostgreSql.Tests;

public sealed class PostgreSqlKillTests(PostgreSqlServer server, ITestOutputHelper output) : WebhookKills(output), IAsyncLifetime
{
    private PostgreSqlSchema _schema = null!;

    protected override string[] SenderArguments => ["sender", _schema.ConnectionString];

    public async ValueTask InitializeAsync() => _schema = await PostgreSqlSchema.CreateAsync(server);

    public ValueTask DisposeAsync() => _schema.DisposeAsync();

    protected override IWebhookDeliveryStore Open() => new PostgreSqlWebhookDeliveryStore(new() { Name = "last", DataSource = _schema.Source });

    protected override DbConnection Connect() => new NpgsqlConnection(_schema.ConnectionString);
}
