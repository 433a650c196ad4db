using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;

namespace Backend.Toolkit.Idempotency;

/// <summary>
/// SHA-256, or HMAC-SHA256 with a secret, over a domain and parts, each preceded by its length in bytes (32 bits, big-endian), so that no two lists of
/// parts give the same bytes. Text is hashed as UTF-16, little-endian: every string has exactly one such form, also one that no encoder would accept.
/// </summary>
internal static class KeyHash
{
    private const int OnStack = 1024;

    public static byte[]? SecretBytes(string? secret) => string.IsNullOrEmpty(secret) ? null : Encoding.UTF8.GetBytes(secret);

    public static IdempotencyDigest Compute(byte[]? secret, string domain, string first, string second, string third, ReadOnlySpan<byte> last = default)
    {
        int size = 5 * sizeof(int) + 2 * (domain.Length + first.Length + second.Length + third.Length) + last.Length;
        byte[]? rented = size > OnStack ? ArrayPool<byte>.Shared.Rent(size) : null;
        Span<byte> buffer = rented ?? stackalloc byte[OnStack];
        Span<byte> hash = stackalloc byte[IdempotencyDigest.Size];
        int length = 0;
        Append(buffer, ref length, domain);
        Append(buffer, ref length, first);
        Append(buffer, ref length, second);
        Append(buffer, ref length, third);
        BinaryPrimitives.WriteInt32BigEndian(buffer[length..], last.Length);
        length += sizeof(int);
        last.CopyTo(buffer[length..]);
        length += last.Length;
        if (secret is null)
        {
            SHA256.HashData(buffer[..length], hash);
        }
        else
        {
            HMACSHA256.HashData(secret, buffer[..length], hash);
        }

        if (rented is not null)
        {
            ArrayPool<byte>.Shared.Return(rented, clearArray: true);
        }

        return new IdempotencyDigest(hash);
    }

    public static IdempotencyDigest Fingerprint(ReadOnlySpan<byte> fingerprint)
    {
        Span<byte> hash = stackalloc byte[IdempotencyDigest.Size];
        SHA256.HashData(fingerprint, hash);
        return new IdempotencyDigest(hash);
    }

    private static void Append(Span<byte> buffer, ref int length, string part)
    {
        BinaryPrimitives.WriteInt32BigEndian(buffer[length..], 2 * part.Length);
        length += sizeof(int);
        if (BitConverter.IsLittleEndian)
        {
            MemoryMarshal.AsBytes(part.AsSpan()).CopyTo(buffer[length..]);
        }
        else
        {
            for (int i = 0; i < part.Length; i++)
            {
                BinaryPrimitives.WriteUInt16LittleEndian(buffer[(length + 2 * i)..], part[i]);
            }
        }

        length += 2 * part.Length;
    }
}
