using System.Buffers.Text;
using System.Globalization;
using System.Text;

namespace Backend.Toolkit.Webhooks;

/// <summary>A scheme, taken apart once.</summary>
internal sealed class WebhookLayout
{
    public const int MostHeaderLength = 4096;
    public const int MostSignatures = 32;
    public const int MostPublicSignatures = 8;
    public const int MostIdLength = 255;
    public const int MacBytes = 32;

    /// <summary>100 characters of text, an id, a timestamp.</summary>
    public const int MostPrefixBytes = 100 + MostIdLength + MostTimestampDigits;

    internal const string Id = "{id}";
    internal const string Timestamp = "{timestamp}";
    private const string Body = "{body}";
    private const int MostTimestampDigits = 19;

    private readonly string[] _parts;

    public WebhookLayout(WebhookScheme scheme)
    {
        Scheme = scheme;
        _parts = PartsOf(scheme.SignedContent)!;
        SignsId = _parts.Contains(Id);
        HasTimestamp = _parts.Contains(Timestamp);
        AfterId = SignsId ? _parts[Array.IndexOf(_parts, Id) + 1][0] : null;
    }

    public WebhookScheme Scheme { get; }

    public bool SignsId { get; }

    public bool HasTimestamp { get; }

    /// <summary>The character that ends the id in what is signed, and so cannot be in one.</summary>
    public char? AfterId { get; }

    /// <summary>What is signed before the body, in pieces; null: it cannot be told apart again.</summary>
    public static string[]? PartsOf(string? signed)
    {
        if (signed is null || signed.Length > 100 || !signed.EndsWith(Body, StringComparison.Ordinal) || !Ascii.IsValid(signed))
        {
            return null;
        }

        var parts = new List<string>();
        for (string rest = signed[..^Body.Length]; rest.Length > 0;)
        {
            int length = rest.StartsWith(Id, StringComparison.Ordinal) ? Id.Length
                : rest.StartsWith(Timestamp, StringComparison.Ordinal) ? Timestamp.Length
                : rest.IndexOf('{', StringComparison.Ordinal) is var at and >= 0 ? at
                : rest.Length;
            if (length == 0)
            {
                return null;
            }

            parts.Add(rest[..length]);
            rest = rest[length..];
        }

        bool clear = parts.Count(part => part is Id) <= 1 && parts.Count(part => part is Timestamp) <= 1;
        for (int i = 0; i < parts.Count; i++)
        {
            clear &= parts[i] is not (Id or Timestamp) || (i + 1 < parts.Count && parts[i + 1] is not (Id or Timestamp) && !char.IsAsciiDigit(parts[i + 1][0]));
        }

        return clear ? [.. parts] : null;
    }

    /// <summary>Visible ASCII, and nothing that would end it early in what is signed.</summary>
    public bool IsId(string id)
    {
        if (id.Length is < 1 or > MostIdLength)
        {
            return false;
        }

        foreach (char character in id)
        {
            if (character is <= ' ' or > '~' || character == AfterId)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Digits alone: no sign, no blank, no other script's, no more than 64 bits.</summary>
    public static bool TryReadTimestamp(ReadOnlySpan<char> text, out long seconds)
    {
        seconds = 0;
        if (text.Length is < 1 or > MostTimestampDigits)
        {
            return false;
        }

        foreach (char character in text)
        {
            if (!char.IsAsciiDigit(character))
            {
                return false;
            }
        }

        return long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out seconds);
    }

    /// <summary>Writes what is signed before the body; id and timestamp are ASCII, as they stand in the headers.</summary>
    public int WritePrefix(Span<byte> destination, string? id, ReadOnlySpan<char> timestamp)
    {
        int length = 0;
        foreach (string part in _parts)
        {
            ReadOnlySpan<char> text = part is Id ? id : part is Timestamp ? timestamp : part;
            length += Encoding.ASCII.GetBytes(text, destination[length..]);
        }

        return length;
    }

    /// <summary>Reads one signature of exactly as many bytes as the destination has.</summary>
    public bool TryDecode(ReadOnlySpan<char> text, Span<byte> destination)
    {
        if (Scheme.Encoding == WebhookEncoding.Hex)
        {
            return text.Length == 2 * destination.Length && Convert.FromHexString(text, destination, out _, out int fromHex) == System.Buffers.OperationStatus.Done && fromHex == destination.Length;
        }

        // The framework's decoder passes over blanks and ignores unused bits: only what it would write itself is taken.
        Span<char> canonical = stackalloc char[88];
        return text.Length == Base64.GetMaxEncodedToUtf8Length(destination.Length)
            && Convert.TryFromBase64Chars(text, destination, out int written) && written == destination.Length
            && Convert.TryToBase64Chars(destination, canonical, out int characters) && canonical[..characters].SequenceEqual(text);
    }

    public int Encode(ReadOnlySpan<byte> signature, Span<char> destination)
    {
        int written;
        bool fits = Scheme.Encoding == WebhookEncoding.Hex ? Convert.TryToHexStringLower(signature, destination, out written) : Convert.TryToBase64Chars(signature, destination, out written);
        return fits ? written : throw new InvalidOperationException("The header has more signatures than it has room for.");
    }
}
