using System.Runtime.CompilerServices;
using System.Security.Cryptography;

namespace Backend.Toolkit.Webhooks;

/// <summary>32 bytes that stand for a message in a store of what was seen: a SHA-256 of the verifier's name and of something that was signed.</summary>
public readonly struct WebhookReplayKey : IEquatable<WebhookReplayKey>
{
    /// <summary>How many bytes a key has.</summary>
    public const int Size = 32;

    private readonly Bytes32 _bytes;

    /// <summary>A key of exactly <see cref="Size"/> bytes.</summary>
    /// <param name="bytes">The bytes.</param>
    /// <exception cref="ArgumentException">There are more or fewer.</exception>
    public WebhookReplayKey(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length != Size)
        {
            throw new ArgumentException(ValidOptions.Invariant($"A key has {Size} bytes, but these are {bytes.Length}."), nameof(bytes));
        }

        bytes.CopyTo(_bytes);
    }

    /// <summary>Whether two keys are the same bytes.</summary>
    /// <param name="left">One key.</param>
    /// <param name="right">The other.</param>
    /// <returns>True when they are.</returns>
    public static bool operator ==(WebhookReplayKey left, WebhookReplayKey right) => left.Equals(right);

    /// <summary>Whether two keys differ.</summary>
    /// <param name="left">One key.</param>
    /// <param name="right">The other.</param>
    /// <returns>True when they do.</returns>
    public static bool operator !=(WebhookReplayKey left, WebhookReplayKey right) => !left.Equals(right);

    /// <summary>Writes the bytes.</summary>
    /// <param name="destination">At least <see cref="Size"/> bytes.</param>
    public void CopyTo(Span<byte> destination) => ((ReadOnlySpan<byte>)_bytes).CopyTo(destination);

    /// <summary>The bytes in a new array.</summary>
    /// <returns><see cref="Size"/> bytes.</returns>
    public byte[] ToArray() => ((ReadOnlySpan<byte>)_bytes).ToArray();

    /// <inheritdoc/>
    public bool Equals(WebhookReplayKey other) => ((ReadOnlySpan<byte>)_bytes).SequenceEqual(other._bytes);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is WebhookReplayKey other && Equals(other);

    /// <summary>Seeded anew in each process.</summary>
    /// <returns>The hash.</returns>
    public override int GetHashCode()
    {
        var hash = new HashCode();
        hash.AddBytes(_bytes);
        return hash.ToHashCode();
    }

    /// <summary>The bytes in lower-case hexadecimal.</summary>
    /// <returns>64 characters.</returns>
    public override string ToString() => Convert.ToHexStringLower(_bytes);

    /// <summary>Of a verifier's name, of what kind of thing the value is, and of the value, which is last and so needs no length.</summary>
    internal static WebhookReplayKey Of(ReadOnlySpan<byte> name, byte kind, ReadOnlySpan<byte> value)
    {
        Span<byte> parts = stackalloc byte[Size + 1 + 256];
        name.CopyTo(parts);
        parts[Size] = kind;
        value.CopyTo(parts[(Size + 1)..]);
        Span<byte> digest = stackalloc byte[Size];
        SHA256.HashData(parts[..(Size + 1 + value.Length)], digest);
        return new WebhookReplayKey(digest);
    }

    [InlineArray(Size)]
    private struct Bytes32
    {
        private byte _first;
    }
}
