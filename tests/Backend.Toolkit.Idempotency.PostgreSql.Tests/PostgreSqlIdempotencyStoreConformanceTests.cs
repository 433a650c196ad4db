using Backend.Toolkit.Idempotency.Tests;
using Npgsql;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

public sealed class PostgreSqlIdempotencyStoreConformanceTests(Database database) : IdempotencyStoreConformance, IAsyncDisposable
{
    private readonly List<IAsyncDisposable> _made = [];

    public async ValueTask DisposeAsync()
    {
        foreach (IAsyncDisposable made in _made)
        {
            await made.DisposeAsync();
        }
    }

    protected override ValueTask<IIdempotencyStore> CreateStoreAsync()
    {
        PostgreSqlIdempotencyStore store = database.CreateStore();
        _made.Add(store);
        return new(store);
    }

    protected override ValueTask ShiftAsync(IIdempotencyStore store, TimeSpan by) => Stores.ShiftAsync(store, by);

    protected override ValueTask<IIdempotencyStore> CreateBrokenStoreAsync()
    {
        PostgreSqlIdempotencyStore store = new(new PostgreSqlIdempotencyStoreOptions { Name = "broken", ConnectionString = "Host=127.0.0.1;Port=1;Username=nobody;Timeout=5" });
        _made.Add(store);
        return new(store);
    }
}
