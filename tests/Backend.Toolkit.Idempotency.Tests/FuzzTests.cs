using System.Globalization;
using System.Text.Json;
using CsCheck;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Idempotency.Tests;

/// <summary>Keys come over the wire, and outcomes from a store that others may have written to.</summary>
public sealed class FuzzTests
{
    private static readonly Gen<string> Keys = Gen.OneOf(
        Gen.String,
        Gen.String[Gen.Char, 0, 300],
        Gen.String[Gen.Char.AlphaNumeric, 1, 255],
        Gen.Select(Gen.Guid, Gen.Int[0, 35], Gen.Char, (id, at, character) => id.ToString()[..at] + character + id.ToString()[(at + 1)..]),
        Gen.Guid.Select(id => id.ToString()[..14] + '7' + id.ToString()[15..]));

    [Fact]
    public void Any_string_is_a_key_or_has_a_problem_that_does_not_repeat_it()
    {
        var store = new TestStore(new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions { MaxRecords = 10_000_000, MaxBytes = 1 << 30 }, new FakeTimeProvider()));
        var executor = new IdempotentExecutor(store, new IdempotencyOptions { Name = "fuzz" }, new FakeTimeProvider(new DateTimeOffset(2026, 7, 1, 0, 0, 0, TimeSpan.Zero)));
        var scope = new IdempotencyScope("fuzz");
        string[] cultures = ["th-TH", "tr-TR", "ar-SA", ""];

        Gen.Select(Keys, Gen.Int[0, 3]).Sample((key, culture) =>
        {
            CultureInfo.CurrentCulture = CultureInfo.GetCultureInfo(cultures[culture]);
            string? problem = IdempotentExecutor.KeyProblem(key);
            bool expected = key.Length is >= 1 and <= 255 && !key.Any(char.IsControl);
            if (!expected)
            {
                Action prepare = () => executor.Prepare(scope, key, default);
                prepare.Should().Throw<ArgumentException>();
                return problem is { Length: < 120 };
            }

            IdempotentOperation operation = executor.Prepare(scope, key, default);
            bool old = Guid.TryParseExact(key, "D", out Guid id) && key.Length == 36 && id.Version == 7 && id.Variant is >= 8 and <= 11 && Convert.ToInt64(id.ToString("N")[..12], 16) < 1_782_777_600_000;
            return problem is null && operation.Status == (old ? IdempotencyStatus.KeyExpired : IdempotencyStatus.Prepared);
        }, iter: 100_000);
        store.AllCalls.Should().Be(0);
    }

    [Fact]
    public void Lists_of_parts_never_meet() => Gen.Select(Gen.String[Gen.Char['a', 'b'], 0, 4].Array[3], Gen.String[Gen.Char['a', 'b'], 0, 4].Array[3]).Sample((left, right) =>
        (KeyHash.Compute(null, "key", left[0], left[1], left[2]) == KeyHash.Compute(null, "key", right[0], right[1], right[2])) == left.SequenceEqual(right), iter: 100_000);

    [Fact]
    public void Any_bytes_as_an_outcome_are_read_or_are_a_typed_error()
    {
        byte[] valid = JsonSerializer.SerializeToUtf8Bytes(new Receipt(1, "thanks"), Json.Default.Receipt);
        Gen<byte[]> bytes = Gen.OneOf(
            Gen.Byte.Array[0, 100],
            Gen.Select(Gen.Int[0, valid.Length - 1], Gen.Byte, (at, value) =>
            {
                byte[] mutated = [.. valid];
                mutated[at] = value;
                return mutated;
            }),
            Gen.Int[0, valid.Length].Select(length => valid[..length]));

        bytes.Sample(content =>
        {
            try
            {
                IdempotentOperation.Read(content, Json.Default.Receipt);
                return true;
            }
            catch (IdempotencyException exception)
            {
                return exception.Error == IdempotencyError.OutcomeUnreadable;
            }
        }, iter: 100_000);
    }
}
