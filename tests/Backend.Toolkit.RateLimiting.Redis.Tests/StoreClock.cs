using StackExchange.Redis;

namespace Backend.Toolkit.RateLimiting.Redis.Tests;

/// <summary>The script as it is, on a real server, but with a clock that the test sets; and since the server's own clock runs on, nothing expires by that.</summary>
internal sealed class StoreClock(IDatabase database, string name)
{
    public BucketScript Script { get; } = new(text => text.Replace("redis.call('TIME')", $"redis.call('MGET', '{name}:seconds', '{name}:microseconds')", StringComparison.Ordinal)
        .Replace(", 'PX', milliseconds + 1)", ")", StringComparison.Ordinal));

    public long Microseconds { get; private set; }

    public async Task SetAsync(long microseconds)
    {
        Microseconds = microseconds;
        await database.StringSetAsync([new($"{name}:seconds", microseconds / 1_000_000), new($"{name}:microseconds", microseconds % 1_000_000)]);
    }

    public Task AddAsync(long microseconds) => SetAsync(Microseconds + microseconds);
}
