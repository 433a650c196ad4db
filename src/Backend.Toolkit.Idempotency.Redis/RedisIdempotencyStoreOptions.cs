using System.Globalization;
using Microsoft.Extensions.Options;
using StackExchange.Redis;

namespace Backend.Toolkit.Idempotency.Redis;

/// <summary>Options of a <see cref="RedisIdempotencyStore"/>. What says where the records are is read when the store is made; the rest may change later.</summary>
public sealed class RedisIdempotencyStoreOptions
{
    /// <summary>The label in logs. Set by <c>AddRedisIdempotencyStore</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>The application's connection. Required; <c>AddRedisIdempotencyStore</c> takes the one that the container has. Read when the store is made.</summary>
    public IConnectionMultiplexer? Connection { get; set; }

    /// <summary>
    /// Put before the names of all keys and channels: stores that share a prefix share their records. On a cluster a hash tag in it, such as <c>{orders}:</c>, puts all records into one slot,
    /// which a second key (a secret that is being rotated) needs. Default <c>idempotency:</c>.
    /// </summary>
    public string KeyPrefix { get; set; } = "idempotency:";

    /// <summary>The number of the database, 0 or more. Default null: that of the connection.</summary>
    public int? Database { get; set; }

    /// <summary>How long the store may take to answer. 1 ms to 1 minute; default 2 s.</summary>
    public TimeSpan StoreTimeout { get; set; } = TimeSpan.FromSeconds(2);

    /// <summary>
    /// How many replicas must have a claim, a phase or an outcome before it counts (<c>WAIT</c>); with fewer the call fails. Other commands of the connection wait meanwhile: give the store one of its own.
    /// Not on a cluster. 0 to 100; default 0: none.
    /// </summary>
    public int Replicas { get; set; }

    /// <summary>How long replicas may take. 1 ms to <see cref="StoreTimeout"/>, and shorter than it; default 1 s.</summary>
    public TimeSpan ReplicaTimeout { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (Connection is null)
        {
            yield return Problem(nameof(Connection), "set, or an IConnectionMultiplexer be registered", "null");
        }

        if (KeyPrefix is null)
        {
            yield return Problem(nameof(KeyPrefix), "a text", "null");
        }

        if (Database < 0)
        {
            yield return Problem(nameof(Database), "null, or 0 or more", Database);
        }

        if (StoreTimeout < TimeSpan.FromMilliseconds(1) || StoreTimeout > TimeSpan.FromMinutes(1))
        {
            yield return Problem(nameof(StoreTimeout), $"between {TimeSpan.FromMilliseconds(1)} and {TimeSpan.FromMinutes(1)}", StoreTimeout);
        }

        if (Replicas is < 0 or > 100)
        {
            yield return Problem(nameof(Replicas), "between 0 and 100", Replicas);
        }

        if (Replicas > 0 && (ReplicaTimeout < TimeSpan.FromMilliseconds(1) || ReplicaTimeout >= StoreTimeout))
        {
            yield return Problem(nameof(ReplicaTimeout), $"at least {TimeSpan.FromMilliseconds(1)} and shorter than StoreTimeout ({StoreTimeout})", ReplicaTimeout);
        }
    }

    internal void ThrowIfInvalid()
    {
        List<string> problems = [.. Problems()];
        if (problems.Count > 0)
        {
            throw new OptionsValidationException(Name ?? "", GetType(), problems);
        }
    }

    private string Problem(string property, string rule, object? value) =>
        string.Create(CultureInfo.InvariantCulture, $"{(string.IsNullOrEmpty(Name) ? nameof(RedisIdempotencyStoreOptions) : Name)}: {property} must be {rule}, but is {value}.");
}
