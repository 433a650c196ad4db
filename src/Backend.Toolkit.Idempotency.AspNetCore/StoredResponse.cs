using System.Buffers;
using System.Text;
using System.Text.Unicode;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>
/// A response as it is kept: a version, the headers that a replay has, the body as it was written, compressed or not. The status is beside it. Counts and lengths are base-128 numbers, text is
/// UTF-8. What another version wrote, or what is damaged, is not read at all.
/// </summary>
internal sealed class StoredResponse
{
    private const byte Version = 1;

    private static readonly SearchValues<char> InNames = SearchValues.Create("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

    private static readonly SearchValues<char> NotInValues = SearchValues.Create("\0\r\n");

    private StoredResponse(List<KeyValuePair<string, StringValues>> headers, ReadOnlyMemory<byte> body)
    {
        Headers = headers;
        Body = body;
    }

    public List<KeyValuePair<string, StringValues>> Headers { get; }

    public ReadOnlyMemory<byte> Body { get; }

    public static byte[] Write(IHeaderDictionary headers, string[] names, ReadOnlySpan<byte> body)
    {
        int size = 1, count = 0;
        foreach (string name in names)
        {
            if (headers.TryGetValue(name, out StringValues values) && values.Count > 0)
            {
                count++;
                size += SizeOf(name) + SizeOf(values.Count);
                foreach (string? value in values)
                {
                    size += SizeOf(value ?? "");
                }
            }
        }

        byte[] content = new byte[size + SizeOf(count) + body.Length];
        Span<byte> rest = content;
        rest[0] = Version;
        rest = rest[1..];
        Put(ref rest, count);
        foreach (string name in names)
        {
            if (headers.TryGetValue(name, out StringValues values) && values.Count > 0)
            {
                Put(ref rest, name);
                Put(ref rest, values.Count);
                foreach (string? value in values)
                {
                    Put(ref rest, value ?? "");
                }
            }
        }

        body.CopyTo(rest);
        return content;
    }

    /// <returns>Null when it cannot be read.</returns>
    public static StoredResponse? Read(ReadOnlyMemory<byte> content)
    {
        ReadOnlySpan<byte> rest = content.Span;
        if (rest.IsEmpty || rest[0] != Version)
        {
            return null;
        }

        rest = rest[1..];
        if (!TryTake(ref rest, out int count))
        {
            return null;
        }

        var headers = new List<KeyValuePair<string, StringValues>>(Math.Min(count, 16));
        for (int i = 0; i < count; i++)
        {
            // Each value takes a byte at least, which bounds the array.
            if (!TryTake(ref rest, out string name) || name.Length == 0 || name.AsSpan().ContainsAnyExcept(InNames)
                || !TryTake(ref rest, out int number) || number < 1 || number > rest.Length)
            {
                return null;
            }

            if (number == 1)
            {
                if (!TryTakeValue(ref rest, out string value))
                {
                    return null;
                }

                headers.Add(new KeyValuePair<string, StringValues>(name, value));
                continue;
            }

            string[] values = new string[number];
            for (int j = 0; j < number; j++)
            {
                if (!TryTakeValue(ref rest, out values[j]))
                {
                    return null;
                }
            }

            headers.Add(new KeyValuePair<string, StringValues>(name, values));
        }

        return new StoredResponse(headers, content[^rest.Length..]);
    }

    private static int SizeOf(int number)
    {
        int size = 1;
        while (number >= 0x80)
        {
            number >>= 7;
            size++;
        }

        return size;
    }

    private static int SizeOf(string text)
    {
        int length = Encoding.UTF8.GetByteCount(text);
        return SizeOf(length) + length;
    }

    private static void Put(ref Span<byte> rest, int number)
    {
        int at = 0;
        for (; number >= 0x80; number >>= 7)
        {
            rest[at++] = (byte)(number | 0x80);
        }

        rest[at++] = (byte)number;
        rest = rest[at..];
    }

    private static void Put(ref Span<byte> rest, string text)
    {
        Put(ref rest, Encoding.UTF8.GetByteCount(text));
        rest = rest[Encoding.UTF8.GetBytes(text, rest)..];
    }

    private static bool TryTake(ref ReadOnlySpan<byte> rest, out int number)
    {
        number = 0;
        for (int i = 0; i < rest.Length && i < 4; i++)
        {
            number |= (rest[i] & 0x7f) << (7 * i);
            if (rest[i] < 0x80)
            {
                rest = rest[(i + 1)..];
                return true;
            }
        }

        return false;
    }

    private static bool TryTake(ref ReadOnlySpan<byte> rest, out string text)
    {
        text = "";
        if (!TryTake(ref rest, out int length) || length > rest.Length || !Utf8.IsValid(rest[..length]))
        {
            return false;
        }

        text = Encoding.UTF8.GetString(rest[..length]);
        rest = rest[length..];
        return true;
    }

    private static bool TryTakeValue(ref ReadOnlySpan<byte> rest, out string value) => TryTake(ref rest, out value) && !value.AsSpan().ContainsAny(NotInValues);
}
