using System.Data.Common;
using Microsoft.Data.Sqlite;

namespace Backend.Toolkit.Webhooks.Delivery.Sqlite.Tests;

public sealed class SqliteKillTests(ITestOutputHelper output) : WebhookKills(output), IDisposable
{
    private readonly SqliteDatabase _database = new();

    protected override string[] SenderArguments => ["sender", _database.ConnectionString];

    public void Dispose() => _database.Dispose();

    protected override IWebhookDeliveryStore Open() => new SqliteWebhookDeliveryStore(new() { Name = "last", ConnectionString = _database.ConnectionString });

    protected override DbConnection Connect() => new SqliteConnection(_database.ConnectionString);
}
