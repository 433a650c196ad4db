using System.Buffers;
using System.Buffers.Binary;
using System.Buffers.Text;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Backend.Toolkit.Pagination;

/// <summary>
/// A key of the application, and what is done with it. A cursor is base64url of
/// <code>
/// head (4)   version 1 in the high 4 bits, flags; id of the key; 16 bits of a hash of shape and scope, which only tell Foreign from Altered
/// body       [expiry (4): seconds since 2000] keys of the row
/// tag (16)   HMAC-SHA256(authenticate, shape (16) ‖ length of scope (4) ‖ scope ‖ head ‖ body), cut to 128 bits
/// </code>
/// Encrypted, the body is xored with HMAC-SHA256(encrypt, tag ‖ counter): the tag is a synthetic initialization vector (as in RFC 5297), so the same page has the same cursor, and two that differ share no
/// stream. Stateless, for all threads; nothing is allocated beside the text.
/// </summary>
internal sealed class CursorSeal
{
    public const int ShapeLength = 16;
    public const int HeadLength = 4;
    public const int TagLength = 16;
    public const byte Version = 0x10;
    public const byte BackwardFlag = 1;
    public const byte BeforeFlag = 2;
    public const byte ExpiryFlag = 4;
    public const byte EncryptedFlag = 8;

    private readonly byte[] _authenticate;
    private readonly byte[] _encrypt;

    public CursorSeal(int id, ReadOnlySpan<byte> secret)
    {
        Id = (byte)id;
        _authenticate = HMACSHA256.HashData(secret, "Backend.Toolkit.Pagination cursor: authenticate"u8);
        _encrypt = HMACSHA256.HashData(secret, "Backend.Toolkit.Pagination cursor: encrypt"u8);
    }

    public byte Id { get; }

    /// <summary>What the tag covers beside the cursor itself, in bytes.</summary>
    public static int ContextLength(string? scope) => ShapeLength + sizeof(int) + (sizeof(char) * (scope?.Length ?? 0));

    public static void WriteContext(Span<byte> destination, ReadOnlySpan<byte> shape, string? scope)
    {
        shape.CopyTo(destination);
        BinaryPrimitives.WriteInt32LittleEndian(destination[ShapeLength..], scope?.Length ?? 0);
        MemoryMarshal.AsBytes(scope.AsSpan()).CopyTo(destination[(ShapeLength + sizeof(int))..]);
    }

    /// <summary>Tells apart most contexts. It is in the cursor for the reason of a refusal alone; the tag is what binds.</summary>
    public static ushort Hint(ReadOnlySpan<byte> shape, string? scope)
    {
        uint hash = BinaryPrimitives.ReadUInt32LittleEndian(shape);
        foreach (char unit in scope.AsSpan())
        {
            hash = (hash ^ unit) * 16_777_619;
        }

        return (ushort)(hash ^ (hash >> 16));
    }

    /// <summary>Completes a cursor in place.</summary>
    /// <param name="buffer">Context, head and body; then room for the tag.</param>
    /// <param name="context">Where the head begins.</param>
    /// <param name="encrypt">Whether the body is hidden.</param>
    public string Seal(Span<byte> buffer, int context, bool encrypt)
    {
        Span<byte> tag = buffer[^TagLength..];
        Authenticate(buffer[..^TagLength], tag);
        if (encrypt)
        {
            Mask(buffer[(context + HeadLength)..^TagLength], tag);
        }

        return Base64Url.EncodeToString(buffer[context..]);
    }

    /// <summary>Uncovers the body in place, and looks whether the tag is that of context, head and body.</summary>
    public bool TryOpen(Span<byte> buffer, int context)
    {
        Span<byte> tag = buffer[^TagLength..];
        if ((buffer[context] & EncryptedFlag) != 0)
        {
            Mask(buffer[(context + HeadLength)..^TagLength], tag);
        }

        Span<byte> expected = stackalloc byte[TagLength];
        Authenticate(buffer[..^TagLength], expected);
        return CryptographicOperations.FixedTimeEquals(expected, tag);
    }

    /// <summary>The bytes that a text of this many characters holds; -1: none holds so many.</summary>
    public static int DecodedLength(int characters) => characters % 4 == 1 ? -1 : (characters / 4 * 3) + Math.Max(0, (characters % 4) - 1);

    /// <summary>
    /// Accepts the one text that encodes the bytes: the decoder skips white space and padding, but then fewer bytes come out than the length of the text says; and it refuses bits left over.
    /// </summary>
    public static bool TryDecode(ReadOnlySpan<char> text, Span<byte> destination) =>
        Base64Url.DecodeFromChars(text, destination, out _, out int written) == OperationStatus.Done && written == destination.Length;

    private void Authenticate(ReadOnlySpan<byte> source, Span<byte> tag)
    {
        Span<byte> hash = stackalloc byte[HMACSHA256.HashSizeInBytes];
        HMACSHA256.HashData(_authenticate, source, hash);
        hash[..TagLength].CopyTo(tag);
    }

    private void Mask(Span<byte> body, ReadOnlySpan<byte> tag)
    {
        Span<byte> block = stackalloc byte[TagLength + sizeof(int)];
        Span<byte> stream = stackalloc byte[HMACSHA256.HashSizeInBytes];
        tag.CopyTo(block);
        for (int counter = 0; !body.IsEmpty; counter++)
        {
            BinaryPrimitives.WriteInt32LittleEndian(block[TagLength..], counter);
            HMACSHA256.HashData(_encrypt, block, stream);
            int length = Math.Min(body.Length, stream.Length);
            for (int i = 0; i < length; i++)
            {
                body[i] ^= stream[i];
            }

            body = body[length..];
        }
    }
}
