using StackExchange.Redis;

namespace Backend.Toolkit.Idempotency.Redis;

/// <summary>The options as they were when the store took them.</summary>
/// <param name="Database">Where the records are.</param>
/// <param name="KeyPrefix">Before the names of keys.</param>
/// <param name="StoreTimeout">How long a call may take.</param>
/// <param name="Replicas">How many replicas must have a write.</param>
/// <param name="Wait">The arguments of <c>WAIT</c>; null: none.</param>
internal sealed record RedisIdempotencyStoreSettings(IDatabase Database, string KeyPrefix, TimeSpan StoreTimeout, int Replicas, object[]? Wait);
