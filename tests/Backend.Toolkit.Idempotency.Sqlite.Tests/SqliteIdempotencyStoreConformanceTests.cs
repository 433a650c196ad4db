using Backend.Toolkit.Idempotency.Tests;

namespace Backend.Toolkit.Idempotency.Sqlite.Tests;

public sealed class SqliteIdempotencyStoreConformanceTests : IdempotencyStoreConformance, IAsyncDisposable
{
    private readonly Database _database = new();

    public ValueTask DisposeAsync() => _database.DisposeAsync();

    protected override ValueTask<IIdempotencyStore> CreateStoreAsync() => new(_database.CreateStore());

    protected override ValueTask ShiftAsync(IIdempotencyStore store, TimeSpan by)
    {
        _database.Shift(by);
        return ValueTask.CompletedTask;
    }

    /// <summary>A folder is no database.</summary>
    protected override ValueTask<IIdempotencyStore> CreateBrokenStoreAsync() => new(_database.CreateStore(o => o.ConnectionString = $"Data Source={Path.GetDirectoryName(_database.File)}"));
}
