using System.Data.Common;
using Backend.Toolkit.Idempotency.Tests;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

public sealed class PostgreSqlTransactionalConformanceTests(Database database) : TransactionalIdempotencyStoreConformance
{
    protected override ValueTask<ITransactionalIdempotencyStore> CreateStoreAsync() => new(database.CreateStore());

    protected override async ValueTask<DbConnection> ConnectAsync() => await database.Source.OpenConnectionAsync();

    protected override ValueTask ShiftAsync(IIdempotencyStore store, TimeSpan by) => Stores.ShiftAsync(store, by);
}
