using System.Data.Common;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Webhooks.Delivery.Sqlite.Tests;

public sealed class SqliteWebhookDeliveryStoreConformanceTests : WebhookDeliveryStoreConformance
{
    private readonly SqliteDatabase _database = new();
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 5, 1, 0, 0, 0, TimeSpan.Zero));

    public override ValueTask DisposeAsync()
    {
        _database.Dispose();
        return base.DisposeAsync();
    }

    protected override ValueTask<IWebhookDeliveryStore> OpenAsync() => new(new SqliteWebhookDeliveryStore(new() { Name = "store", ConnectionString = _database.ConnectionString }, _time));

    protected override async ValueTask<DbConnection> ConnectAsync()
    {
        var connection = new SqliteConnection(_database.ConnectionString);
        await connection.OpenAsync();
        return connection;
    }

    protected override ValueTask PassAsync(TimeSpan time)
    {
        _time.Advance(time);
        return default;
    }
}
