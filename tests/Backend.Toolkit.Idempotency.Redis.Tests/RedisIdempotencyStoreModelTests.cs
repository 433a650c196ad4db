using Backend.Toolkit.Idempotency.Tests;

namespace Backend.Toolkit.Idempotency.Redis.Tests;

public sealed class RedisIdempotencyStoreModelTests(RedisFixture redis) : IdempotencyStoreModel, IClassFixture<RedisFixture>
{
    private string _prefix = "";

    /// <summary>A prefix for each run, so that only its own records are made older.</summary>
    protected override ValueTask<IIdempotencyStore> CreateStoreAsync()
    {
        _prefix = $"{Guid.NewGuid():N}:";
        return new(Stores.Make(redis.Connection, o => o.KeyPrefix = _prefix));
    }

    protected override ValueTask ShiftAsync(IIdempotencyStore store, TimeSpan by) => Stores.ShiftAsync(redis.Connection, _prefix, by);
}
