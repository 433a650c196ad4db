using Backend.Toolkit.Idempotency.Tests;
using Backend.Toolkit.Tests;
using StackExchange.Redis;

namespace Backend.Toolkit.Idempotency.Redis.Tests;

public sealed class RedisIdempotencyStoreConformanceTests(RedisFixture redis) : IdempotencyStoreConformance, IClassFixture<RedisFixture>, IAsyncDisposable
{
    private readonly string _prefix = $"{Guid.NewGuid():N}:";
    private ConnectionMultiplexer? _nowhere;

    public async ValueTask DisposeAsync()
    {
        if (_nowhere is not null)
        {
            await _nowhere.DisposeAsync();
        }
    }

    protected override ValueTask<IIdempotencyStore> CreateStoreAsync() => new(Stores.Make(redis.Connection, o => o.KeyPrefix = _prefix));

    protected override ValueTask ShiftAsync(IIdempotencyStore store, TimeSpan by) => Stores.ShiftAsync(redis.Connection, _prefix, by);

    protected override async ValueTask<IIdempotencyStore> CreateBrokenStoreAsync()
    {
        _nowhere = await ConnectionMultiplexer.ConnectAsync($"127.0.0.1:{RedisServer.FreePort()},abortConnect=false,connectTimeout=100");
        return Stores.Make(_nowhere, o => o.StoreTimeout = TimeSpan.FromMilliseconds(100));
    }
}
