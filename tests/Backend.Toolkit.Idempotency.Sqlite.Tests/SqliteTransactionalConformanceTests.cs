using System.Data.Common;
using Backend.Toolkit.Idempotency.Tests;

namespace Backend.Toolkit.Idempotency.Sqlite.Tests;

public sealed class SqliteTransactionalConformanceTests : TransactionalIdempotencyStoreConformance
{
    private readonly Database _database = new();

    protected override bool BeginningWaits => true;

    protected override ValueTask<ITransactionalIdempotencyStore> CreateStoreAsync() => new(_database.CreateStore());

    protected override ValueTask<DbConnection> ConnectAsync() => new(_database.Connect());

    protected override ValueTask ShiftAsync(IIdempotencyStore store, TimeSpan by)
    {
        _database.Shift(by);
        return ValueTask.CompletedTask;
    }

    protected override ValueTask DisposeStoreAsync(ITransactionalIdempotencyStore store) => _database.DisposeAsync();
}
