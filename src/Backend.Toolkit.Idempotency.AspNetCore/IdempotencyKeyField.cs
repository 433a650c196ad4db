using System.Globalization;
using Microsoft.Extensions.Primitives;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>
/// Reads a key: the string of RFC 9651, section 4.2.5; unless strict also a bare one, without what has a meaning in structured fields. Parameters are refused: the draft's field is
/// <c>sf-string</c> and knows none, so that two keys that differ in one would become the same. Linear; copies the key only to take escapes out.
/// </summary>
internal static class IdempotencyKeyField
{
    private const int Longest = 255;

    /// <returns>Null, or what is wrong: a sentence that does not repeat the value.</returns>
    public static string? Problem(in StringValues lines, bool strict, out string key)
    {
        key = "";
        if (lines.Count != 1)
        {
            return string.Create(CultureInfo.InvariantCulture, $"The header must come once, but comes {lines.Count} times.");
        }

        ReadOnlySpan<char> text = lines[0].AsSpan().Trim(' ');
        if (text.IsEmpty)
        {
            return "The key must have 1 to 255 characters, but is empty.";
        }

        // Each character may be escaped; what is longer is not even looked at.
        if (text.Length > (2 * Longest) + 2)
        {
            return string.Create(CultureInfo.InvariantCulture, $"The key must have 1 to 255 characters, but the header has {text.Length}.");
        }

        string? problem = text[0] == '"' ? ReadQuoted(text, out key)
            : strict ? "The key must be a string in quotes, such as \"8e03978e-40d5-43e8-bc93-6894a57f9324\"."
            : ReadBare(text, out key);
        return problem ?? IdempotentExecutor.KeyProblem(key);
    }

    private static string? ReadQuoted(ReadOnlySpan<char> text, out string key)
    {
        key = "";
        Span<char> unescaped = stackalloc char[text.Length];
        int length = 0;
        for (int i = 1; i < text.Length; i++)
        {
            char c = text[i];
            if (c == '"')
            {
                if (i < text.Length - 1)
                {
                    return "Nothing may follow the string.";
                }

                key = new string(unescaped[..length]);
                return null;
            }

            if (c == '\\')
            {
                i++;
                if (i == text.Length || text[i] is not ('"' or '\\'))
                {
                    return "A backslash may only stand before a quote or a backslash.";
                }

                c = text[i];
            }
            else if (c is < ' ' or > '~')
            {
                return NotAscii(c);
            }

            unescaped[length++] = c;
        }

        return "The string must end with a quote.";
    }

    private static string? ReadBare(ReadOnlySpan<char> text, out string key)
    {
        key = "";
        foreach (char c in text)
        {
            if (c is < ' ' or > '~')
            {
                return NotAscii(c);
            }

            if (c is ' ' or '"' or '\\' or ',' or ';')
            {
                return string.Create(CultureInfo.InvariantCulture, $"A key with U+{(int)c:X4} must be a string in quotes.");
            }
        }

        key = new string(text);
        return null;
    }

    private static string NotAscii(char c) => string.Create(CultureInfo.InvariantCulture, $"The key must have printable ASCII characters only, but has U+{(int)c:X4}.");
}
