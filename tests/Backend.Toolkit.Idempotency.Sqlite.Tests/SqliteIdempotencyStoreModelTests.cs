using Backend.Toolkit.Idempotency.Tests;

namespace Backend.Toolkit.Idempotency.Sqlite.Tests;

public sealed class SqliteIdempotencyStoreModelTests : IdempotencyStoreModel, IAsyncDisposable
{
    private readonly Database _database = new();

    public SqliteIdempotencyStoreModelTests() => _database.Execute(SqliteIdempotencyStore.Script());

    public ValueTask DisposeAsync() => _database.DisposeAsync();

    /// <summary>The keys are new ones each time; those of former runs grow old with them.</summary>
    protected override ValueTask<IIdempotencyStore> CreateStoreAsync() => new(_database.CreateStore());

    protected override ValueTask ShiftAsync(IIdempotencyStore store, TimeSpan by)
    {
        _database.Shift(by);
        return ValueTask.CompletedTask;
    }
}
