using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Idempotency.Tests;

public sealed class MemoryIdempotencyStoreConformanceTests : IdempotencyStoreConformance
{
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 7, 1, 0, 0, 0, TimeSpan.Zero));

    protected override ValueTask<IIdempotencyStore> CreateStoreAsync() => new(new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions(), _time));

    protected override ValueTask ShiftAsync(IIdempotencyStore store, TimeSpan by) => LetPassAsync(store, by);

    protected override async ValueTask<IIdempotencyStore> CreateBrokenStoreAsync()
    {
        var store = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions { MaxRecords = 1 }, _time);
        await store.BeginAsync(Request());
        return store;
    }

    protected override bool OnlyBeginCanFail => true;

    protected override ValueTask LetPassAsync(IIdempotencyStore store, TimeSpan time)
    {
        _time.Advance(time);
        return ValueTask.CompletedTask;
    }
}
