using System.Buffers.Binary;
using System.Text;
using StackExchange.Redis;

namespace Backend.Toolkit.Idempotency.Redis;

/// <summary>How records and answers of <see cref="RecordScripts"/> are written and read.</summary>
internal static class Record
{
    private const long Largest = 1L << 53;

    /// <summary>As the record has it, for comparison byte for byte. A fence that no record can have becomes one that none has.</summary>
    public static byte[] Fence(long fence)
    {
        byte[] bytes = new byte[8];
        BinaryPrimitives.WriteDoubleBigEndian(bytes, fence is >= 0 and < Largest ? fence : -1);
        return bytes;
    }

    /// <summary>How a record in progress under this fence begins.</summary>
    public static byte[] Owned(long fence) => [.. "i1p"u8, .. Fence(fence)];

    /// <summary>By code unit, as names that are no well-formed text would meet in UTF-8.</summary>
    public static byte[] Name(string phase)
    {
        byte[] name = new byte[phase.Length * 2];
        for (int i = 0; i < phase.Length; i++)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(name.AsSpan(i * 2), phase[i]);
        }

        return name;
    }

    public static byte[] Phase(byte[] name, ReadOnlySpan<byte> value)
    {
        byte[] phase = new byte[6 + name.Length + value.Length];
        BinaryPrimitives.WriteUInt16BigEndian(phase, (ushort)name.Length);
        BinaryPrimitives.WriteInt32BigEndian(phase.AsSpan(2), value.Length);
        name.CopyTo(phase.AsSpan(6));
        value.CopyTo(phase.AsSpan(6 + name.Length));
        return phase;
    }

    public static byte[] Outcome(IdempotencyOutcome outcome)
    {
        byte[] bytes = new byte[4 + outcome.Content.Length];
        BinaryPrimitives.WriteInt32BigEndian(bytes, outcome.Status);
        outcome.Content.Span.CopyTo(bytes.AsSpan(4));
        return bytes;
    }

    /// <summary>Reads the answer to a claim.</summary>
    /// <exception cref="FormatException">It is none.</exception>
    public static IdempotencyClaim Claim(RedisResult result, in IdempotencyClaimRequest request)
    {
        byte[]? answer = result.Resp2Type == ResultType.BulkString ? (byte[]?)result : null;
        if (answer is not { Length: >= 2 } || answer[1] is not ((byte)'1' or (byte)'2'))
        {
            throw Nonsense();
        }

        IdempotencyDigest key = answer[1] == '1' ? request.Key : request.PreviousKey ?? throw Nonsense();
        ReadOnlyMemory<byte> rest = answer.AsMemory(2);
        return ((char)answer[0], rest.Length) switch
        {
            ('s', >= 8) => IdempotencyClaim.Started(key, Number(rest.Span), Phases(rest[8..])),
            ('p', 16) => IdempotencyClaim.InProgress(key, Number(rest.Span), TimeSpan.FromMicroseconds(Number(rest.Span[8..]))),
            ('c', >= 5) when rest.Span[0] == 't' => IdempotencyClaim.Completed(key, IdempotencyOutcome.Tombstone(BinaryPrimitives.ReadInt32BigEndian(rest.Span[1..]))),
            ('c', >= 5) => IdempotencyClaim.Completed(key, new IdempotencyOutcome(BinaryPrimitives.ReadInt32BigEndian(rest.Span[1..]), rest[5..])),
            ('m', 0) => IdempotencyClaim.Mismatch(key),
            _ => throw Nonsense(),
        };
    }

    /// <summary>Reads the answer to a write.</summary>
    /// <exception cref="FormatException">It is none.</exception>
    public static bool IsWritten(RedisResult result) => result.Resp2Type == ResultType.Integer && (long)result is 0 or 1 ? (long)result == 1 : throw Nonsense();

    private static Dictionary<string, ReadOnlyMemory<byte>>? Phases(ReadOnlyMemory<byte> bytes)
    {
        if (bytes.IsEmpty)
        {
            return null;
        }

        var phases = new Dictionary<string, ReadOnlyMemory<byte>>(StringComparer.Ordinal);
        while (!bytes.IsEmpty)
        {
            int name = bytes.Length < 6 ? 0 : BinaryPrimitives.ReadUInt16BigEndian(bytes.Span);
            long value = bytes.Length < 6 ? 0 : BinaryPrimitives.ReadUInt32BigEndian(bytes.Span[2..]);
            if (name == 0 || name % 2 != 0 || 6 + name + value > bytes.Length)
            {
                throw new FormatException("The phases of the record are damaged.");
            }

            var text = new StringBuilder(name / 2);
            for (int i = 0; i < name; i += 2)
            {
                text.Append((char)BinaryPrimitives.ReadUInt16LittleEndian(bytes.Span[(6 + i)..]));
            }

            phases[text.ToString()] = bytes.Slice(6 + name, (int)value);
            bytes = bytes[(6 + name + (int)value)..];
        }

        return phases;
    }

    private static long Number(ReadOnlySpan<byte> bytes)
    {
        double number = BinaryPrimitives.ReadDoubleBigEndian(bytes);
        return number >= 0 && number < Largest && number == Math.Floor(number) ? (long)number : throw Nonsense();
    }

    private static FormatException Nonsense() => new("The answer is none of our script. Is it a Redis server that runs scripts?");
}
