using System.Security.Cryptography;
using BenchmarkDotNet.Attributes;

namespace Backend.Toolkit.Pagination.Benchmarks;

/// <summary>A cursor of a time and an int, with a scope: beside one HMAC-SHA256 of what is authenticated (76 bytes), which is the floor.</summary>
public class CursorBenchmarks
{
    private const string Scope = "tenant 7";

    private static readonly CursorPaginator Paginator = Order.Paginator;
    private static readonly CursorPaginator Encrypting = New();
    private static readonly Order Row = new(42, new DateTime(2024, 5, 6, 7, 8, 9, DateTimeKind.Utc), "");
    private static readonly PageRequest Sealed = new(Paginator.Seal(Order.Newest, Row, PageDirection.Forward, Scope));
    private static readonly PageRequest Encrypted = new(Encrypting.Seal(Order.Newest, Row, PageDirection.Forward, Scope));
    private static readonly byte[] Key = RandomNumberGenerator.GetBytes(32);
    private static readonly byte[] Authenticated = RandomNumberGenerator.GetBytes(16 + 4 + (2 * Scope.Length) + 4 + 12);
    private static readonly byte[] Tag = new byte[32];

    [BenchmarkCategory("seal"), Benchmark(Baseline = true, Description = "HMACSHA256.HashData")]
    public int HmacOfSeal() => HMACSHA256.HashData(Key, Authenticated, Tag);

    [BenchmarkCategory("seal"), Benchmark(Description = "Seal")]
    public string Seal() => Paginator.Seal(Order.Newest, Row, PageDirection.Forward, Scope);

    [BenchmarkCategory("seal"), Benchmark(Description = "Seal, encrypted")]
    public string SealEncrypted() => Encrypting.Seal(Order.Newest, Row, PageDirection.Forward, Scope);

    [BenchmarkCategory("open"), Benchmark(Baseline = true, Description = "HMACSHA256.HashData")]
    public int HmacOfOpen() => HMACSHA256.HashData(Key, Authenticated, Tag);

    [BenchmarkCategory("open"), Benchmark(Description = "Open")]
    public int Open() => Paginator.Open(Order.Newest, Sealed, Scope).PositionKey<int>(1);

    [BenchmarkCategory("open"), Benchmark(Description = "Open, encrypted")]
    public int OpenEncrypted() => Encrypting.Open(Order.Newest, Encrypted, Scope).PositionKey<int>(1);

    private static CursorPaginator New()
    {
        var options = new CursorPaginatorOptions { Encrypt = true };
        options.Keys.Add(new CursorKey(1, [.. Enumerable.Range(1, 32).Select(i => (byte)i)]));
        return new CursorPaginator(options);
    }
}
