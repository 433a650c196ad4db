using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Backend.Toolkit.RateLimiting;

/// <summary>
/// A multiply hash with two random secrets: 64 bits that nobody outside can aim at without knowing them, and nobody is ever shown one. Linear in the text, no allocation.
/// 16 bytes at a time are folded into the state by one multiplication of 64 by 64 bits, both factors masked. The scheme is that of wyhash (Wang Yi) and of aHash's fallback.
/// </summary>
internal sealed class KeyHash
{
    private readonly ulong _first = Random();
    private readonly ulong _second = Random() | 1;

    public ulong Of(string text) => Of(MemoryMarshal.AsBytes(text.AsSpan()));

    /// <summary>A number, closed as no text is: the kinds are part of what is hashed.</summary>
    public ulong Of(ulong kind, ulong low, ulong high) => Fold(Fold(low ^ _first, high ^ _second) ^ _first, _second ^ (kind << 56));

    private static ulong Fold(ulong a, ulong b)
    {
        ulong high = Math.BigMul(a, b, out ulong low);
        return high ^ low;
    }

    private static ulong Random() => MemoryMarshal.Read<ulong>(RandomNumberGenerator.GetBytes(8));

    private ulong Of(ReadOnlySpan<byte> bytes)
    {
        ulong length = (ulong)bytes.Length, state = 0;
        for (; bytes.Length > 16; bytes = bytes[16..])
        {
            state = Fold(MemoryMarshal.Read<ulong>(bytes) ^ _first, MemoryMarshal.Read<ulong>(bytes[8..]) ^ _second ^ state);
        }

        // The last 1 to 16 bytes, read as two words that may overlap, or none; a text has an even number of bytes.
        (ulong low, ulong high) = bytes.Length switch
        {
            >= 8 => (MemoryMarshal.Read<ulong>(bytes), MemoryMarshal.Read<ulong>(bytes[^8..])),
            >= 4 => ((ulong)MemoryMarshal.Read<uint>(bytes), (ulong)MemoryMarshal.Read<uint>(bytes[^4..])),
            >= 2 => (MemoryMarshal.Read<ushort>(bytes), 0UL),
            _ => (0UL, 0UL),
        };
        return Fold(Fold(low ^ _first, high ^ _second ^ state) ^ _first, _second ^ length);
    }
}
