using Dapper;
using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Storage;

namespace Backend.Toolkit.Webhooks.Delivery.Sqlite.Tests;

/// <summary>The event is a part of the caller's transaction, whatever the caller writes with.</summary>
public sealed class CallersTransactionTests : IAsyncLifetime
{
    private readonly SqliteDatabase _database = new();
    private SqliteWebhookDeliveryStore _store = null!;
    private WebhookOutbox _outbox = null!;

    public async ValueTask InitializeAsync()
    {
        _store = new SqliteWebhookDeliveryStore(new() { Name = "store", ConnectionString = _database.ConnectionString });
        await _store.PrepareAsync();
        _outbox = new WebhookOutbox(_store);
        await using var connection = new SqliteConnection(_database.ConnectionString);
        await connection.ExecuteAsync("CREATE TABLE Orders (Id TEXT PRIMARY KEY)");
    }

    public ValueTask DisposeAsync()
    {
        _store.Dispose();
        _database.Dispose();
        return default;
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Of_Dapper_order_and_event_are_committed_or_rolled_back_together(bool commits)
    {
        await using (var connection = new SqliteConnection(_database.ConnectionString))
        {
            await connection.OpenAsync();
            await using SqliteTransaction transaction = connection.BeginTransaction();
            await connection.ExecuteAsync("INSERT INTO Orders VALUES (@id)", new { id = "1" }, transaction);
            await _outbox.EnqueueAsync(new WebhookEvent("order.created", "{}"u8.ToArray(), "acme"), transaction);
            await (commits ? transaction.CommitAsync() : transaction.RollbackAsync());
        }

        (await CountAsync()).Should().Be(commits ? (1, 1) : (0, 0));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Of_EF_Core_order_and_event_are_committed_or_rolled_back_together(bool commits)
    {
        await using (var context = new OrdersContext(_database.ConnectionString))
        {
            await using IDbContextTransaction transaction = await context.Database.BeginTransactionAsync();
            context.Orders.Add(new Order { Id = "1" });
            await context.SaveChangesAsync();
            await _outbox.EnqueueAsync(new WebhookEvent("order.created", "{}"u8.ToArray(), "acme"), transaction.GetDbTransaction());
            await (commits ? transaction.CommitAsync() : transaction.RollbackAsync());
        }

        (await CountAsync()).Should().Be(commits ? (1, 1) : (0, 0));
    }

    private async Task<(int Orders, int Events)> CountAsync()
    {
        await using var connection = new SqliteConnection(_database.ConnectionString);
        return (await connection.ExecuteScalarAsync<int>("SELECT count(*) FROM Orders"), await _store.FanOutAsync(10));
    }

    private sealed class Order
    {
        public required string Id { get; set; }
    }

    private sealed class OrdersContext(string connectionString) : DbContext
    {
        public DbSet<Order> Orders => Set<Order>();

        protected override void OnConfiguring(DbContextOptionsBuilder optionsBuilder) => optionsBuilder.UseSqlite(connectionString);
    }
}
