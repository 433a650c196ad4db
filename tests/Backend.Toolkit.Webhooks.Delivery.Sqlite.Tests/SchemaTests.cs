using System.Data.Common;
using Microsoft.Data.Sqlite;

namespace Backend.Toolkit.Webhooks.Delivery.Sqlite.Tests;

public sealed class SchemaTests : IDisposable
{
    private readonly SqliteDatabase _database = new();

    public void Dispose() => _database.Dispose();

    [Fact]
    public async Task Tables_are_the_applications_to_make_when_it_says_so_and_the_script_makes_them()
    {
        using var store = new SqliteWebhookDeliveryStore(new() { Name = "store", ConnectionString = _database.ConnectionString, CreateSchema = false });
        await store.PrepareAsync();
        Func<Task> fanOut = async () => await store.FanOutAsync(1);

        await fanOut.Should().ThrowAsync<SqliteException>();
        for (int i = 0; i < 2; i++)
        {
            await using var connection = new SqliteConnection(_database.ConnectionString);
            await connection.OpenAsync();
            await using var command = new SqliteCommand(SqliteWebhookDeliveryStore.Script(), connection);
            await command.ExecuteNonQueryAsync();
        }

        await fanOut.Should().NotThrowAsync();
    }

    [Fact]
    public async Task A_transaction_of_another_database_is_refused()
    {
        using var store = new SqliteWebhookDeliveryStore(new() { Name = "store", ConnectionString = _database.ConnectionString });
        await store.PrepareAsync();

        Func<Task> enqueue = async () => await store.EnqueueAsync(new WebhookEventRow("msg_1", "a", "acme", null, null, null, default), new OtherTransaction());

        await enqueue.Should().ThrowAsync<ArgumentException>().WithMessage("*SqliteTransaction*OtherTransaction*");
    }

    private sealed class OtherTransaction : DbTransaction
    {
        public override System.Data.IsolationLevel IsolationLevel => System.Data.IsolationLevel.Serializable;

        protected override DbConnection? DbConnection => null;

        public override void Commit()
        {
        }

        public override void Rollback()
        {
        }
    }
}
