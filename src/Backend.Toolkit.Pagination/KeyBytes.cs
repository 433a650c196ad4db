using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Backend.Toolkit.Pagination;

/// <summary>The keys of a position as they stand in a cursor. Up to 64 bytes are held in place.</summary>
internal readonly struct KeyBytes
{
    private readonly Inline _inline;
    private readonly byte[]? _array;
    private readonly int _length;

    public KeyBytes(ReadOnlySpan<byte> bytes)
    {
        _length = bytes.Length;
        if (bytes.Length <= Inline.Length)
        {
            Span<ulong> words = _inline;
            bytes.CopyTo(MemoryMarshal.AsBytes(words));
        }
        else
        {
            _array = bytes.ToArray();
        }
    }

    [UnscopedRef]
    public ReadOnlySpan<byte> Span
    {
        get
        {
            ReadOnlySpan<ulong> words = _inline;
            return _array is null ? MemoryMarshal.AsBytes(words)[.._length] : _array;
        }
    }

    [InlineArray(Words)]
    private struct Inline
    {
        public const int Length = Words * sizeof(ulong);

        private const int Words = 8;

        private ulong _first;
    }
}
