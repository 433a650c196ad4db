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
        Func<Task> prepare = async () => await store.PrepareAsync();

        await prepare.Should().ThrowAsync<InvalidOperationException>().WithMessage($"The tables of webhook deliveries must be in {_database.File}, but are not. Run SqliteWebhookDeliveryStore.Script()*");
        for (int i = 0; i < 2; i++)
        {
            await using var connection = new SqliteConnection(_database.ConnectionString);
            await connection.OpenAsync();
            await using var command = new SqliteCommand(SqliteWebhookDeliveryStore.Script(), connection);
            await command.ExecuteNonQueryAsync();
        }

        await prepare.Should().NotThrowAsync();
        (await store.FanOutAsync(1)).Should().Be(0);
    }

    [Fact]
    public async Task A_file_that_cannot_be_opened_is_named()
    {
        string file = Path.Combine(Path.GetDirectoryName(_database.File)!, "nowhere", "shop.db");
        using var store = new SqliteWebhookDeliveryStore(new() { Name = "store", ConnectionString = $"Data Source={file}" });

        Func<Task> prepare = async () => await store.PrepareAsync();

        await prepare.Should().ThrowAsync<SqliteException>().WithMessage($"{file}: *unable to open*");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_transaction_of_another_file_is_refused(bool isPrepared)
    {
        using var other = new SqliteDatabase();
        using var store = new SqliteWebhookDeliveryStore(new() { Name = "store", ConnectionString = _database.ConnectionString });
        if (isPrepared)
        {
            await store.PrepareAsync();
        }

        await using var connection = new SqliteConnection(other.ConnectionString);
        await connection.OpenAsync();
        await using DbTransaction transaction = await connection.BeginTransactionAsync();

        Func<Task> enqueue = async () => await store.EnqueueAsync(new WebhookEventRow("msg_1", "a", "acme", null, null, null, default), transaction);

        await enqueue.Should().ThrowAsync<ArgumentException>().WithMessage($"The transaction must be of the store's file {_database.File}, but is of {other.File}.*");
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
