using System.Data.Common;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using Microsoft.Extensions.Logging;
using Npgsql;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

internal static class Stores
{
    private static readonly ConditionalWeakTable<IIdempotencyStore, Place> Places = [];

    public static TimeSpan Lease { get; } = TimeSpan.FromSeconds(30);

    public static TimeSpan Retention { get; } = TimeSpan.FromHours(24);

    public static TimeSpan Patience { get; } = TimeSpan.FromSeconds(30);

    public static byte[] Content { get; } = [1, 2, 3];

    public static IdempotencyOutcome Outcome { get; } = new(200, Content);

    public static string NewTable() => $"t{Guid.NewGuid():N}";

    public static PostgreSqlIdempotencyStore Create(NpgsqlDataSource source, Action<PostgreSqlIdempotencyStoreOptions>? configure = null, TimeProvider? time = null, ILogger<PostgreSqlIdempotencyStore>? logger = null)
    {
        var options = new PostgreSqlIdempotencyStoreOptions { Name = "tests", DataSource = source, Table = NewTable(), CleanupInterval = Timeout.InfiniteTimeSpan };
        configure?.Invoke(options);
        var store = new PostgreSqlIdempotencyStore(options, time, logger);
        Places.Add(store, new Place(source, $"{options.Schema}.{options.Table}"));
        return store;
    }

    public static string TableOf(IIdempotencyStore store) => Places.TryGetValue(store, out Place? place) ? place.Table : throw new InvalidOperationException("It was made elsewhere.");

    public static async ValueTask ShiftAsync(IIdempotencyStore store, TimeSpan by)
    {
        Places.TryGetValue(store, out Place? place);
        await ExecuteAsync(place!.Source, string.Create(CultureInfo.InvariantCulture, $"UPDATE {place.Table} SET lease_end = lease_end - i, expiry = expiry - i, cleanup_at = cleanup_at - i FROM (SELECT {by.TotalSeconds} * interval '1 second' AS i) AS shift"));
    }

    public static async Task<int> ExecuteAsync(NpgsqlDataSource source, string sql)
    {
        await using NpgsqlCommand command = source.CreateCommand(sql);
        return await command.ExecuteNonQueryAsync();
    }

    public static async Task<T> ScalarAsync<T>(NpgsqlDataSource source, string sql)
    {
        await using NpgsqlCommand command = source.CreateCommand(sql);
        return (T)(await command.ExecuteScalarAsync())!;
    }

    public static IdempotencyDigest Digest() => new(RandomNumberGenerator.GetBytes(IdempotencyDigest.Size));

    public static IdempotencyClaimRequest Request(IdempotencyDigest? key = null, IdempotencyDigest? fingerprint = null, IdempotencyDigest? previous = null) => new()
    {
        Key = key ?? Digest(),
        PreviousKey = previous,
        Fingerprint = fingerprint ?? Digest(),
        Lease = Lease,
        Retention = Retention,
    };

    public static ValueTask<IdempotencyClaim> ClaimAsync(this PostgreSqlIdempotencyStore store, IdempotencyClaimRequest request, DbTransaction transaction, DuplicatePolicy duplicates = DuplicatePolicy.WaitAndReplay) =>
        store.ClaimAsync(request, transaction, duplicates, Patience);

    /// <summary>Until somebody waits for a record of the store.</summary>
    public static async Task UntilAwaitedAsync(NpgsqlDataSource source, IIdempotencyStore store)
    {
        using var limit = new CancellationTokenSource(Patience, TimeProvider.System);
        while (!await ScalarAsync<bool>(source, $"SELECT coalesce(bool_or(awaited), false) FROM {TableOf(store)}"))
        {
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System, limit.Token);
        }
    }

    private sealed record Place(NpgsqlDataSource Source, string Table);
}
