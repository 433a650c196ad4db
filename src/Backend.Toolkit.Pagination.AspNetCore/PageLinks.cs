using System.Buffers;
using System.Globalization;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>
/// Writes <c>Link</c> headers (RFC 8288): the same resource with another cursor, all other parameters as they came. What is not allowed in a query by RFC 3986, and what might end a link or a header field early, is
/// percent-encoded, so that nothing of a request gets out of its link. Linear in the length of the query.
/// </summary>
internal static class PageLinks
{
    private const string PlainInBoth = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$'()*+:@/=";

    /// <summary>What stays as it is. Without the comma and the semicolon, at which careless readers of the header cut.</summary>
    private static readonly SearchValues<char> PlainInPath = SearchValues.Create(PlainInBoth), PlainInQuery = SearchValues.Create(PlainInBoth + "?");

    public static void Add(HttpContext context, string? next, string? previous)
    {
        if (next is null && previous is null)
        {
            return;
        }

        HttpPaginationOptions options = HttpPaginationOptions.Of(context);
        string head = options.BaseAddress is Uri address ? Absolute(address, context.Request.Path) : "";
        string others = Others(context.Request.QueryString.Value, options.CursorParameter);
        string parameter = Uri.EscapeDataString(options.CursorParameter);
        var links = new StringBuilder();
        if (next is not null)
        {
            AppendLink(next, "next");
        }

        if (previous is not null)
        {
            AppendLink(previous, "prev");
        }

        // Beside those that the application wrote itself.
        context.Response.Headers.Append("Link", links.ToString());

        void AppendLink(string cursor, string relation) => links.Append(links.Length > 0 ? ", " : "")
            .Append('<').Append(head).Append('?').Append(parameter).Append('=').Append(Uri.EscapeDataString(cursor)).Append(others)
            .Append(">; rel=\"").Append(relation).Append('"');
    }

    /// <summary>The parameters other than the cursor, each behind an ampersand.</summary>
    private static string Others(string? query, string cursorParameter)
    {
        var others = new StringBuilder();
        ReadOnlySpan<char> rest = query is ['?', ..] ? query.AsSpan(1) : query;
        foreach (Range range in rest.Split('&'))
        {
            ReadOnlySpan<char> pair = rest[range];
            if (pair.Length > 0 && !IsCalled(pair, cursorParameter))
            {
                others.Append('&');
                AppendEscaped(others, pair, isPath: false);
            }
        }

        return others.ToString();
    }

    /// <summary>Whether ASP.NET Core would take the pair for a value of that parameter.</summary>
    private static bool IsCalled(ReadOnlySpan<char> pair, string parameter)
    {
        int end = pair.IndexOf('=');
        ReadOnlySpan<char> name = end < 0 ? pair : pair[..end];
        return name.IndexOfAny('%', '+') < 0
            ? name.Equals(parameter, StringComparison.OrdinalIgnoreCase)
            : string.Equals(Uri.UnescapeDataString(name.ToString().Replace('+', ' ')), parameter, StringComparison.OrdinalIgnoreCase);
    }

    private static string Absolute(Uri address, PathString path)
    {
        // A header is ASCII, which an international name is not as people write it.
        var absolute = new StringBuilder(address.Scheme).Append("://").Append(address.HostNameType == UriHostNameType.IPv6 ? address.Host : address.IdnHost);
        if (!address.IsDefaultPort)
        {
            absolute.Append(CultureInfo.InvariantCulture, $":{address.Port}");
        }

        absolute.Append(address.AbsolutePath.TrimEnd('/'));
        AppendEscaped(absolute, path.Value, isPath: true);
        return absolute.ToString();
    }

    /// <summary>A query is as it came, so what is escaped in it stays so. A path is decoded but for slashes inside its segments; any other percent sign stands for itself.</summary>
    private static void AppendEscaped(StringBuilder text, ReadOnlySpan<char> raw, bool isPath)
    {
        Span<byte> bytes = stackalloc byte[4];
        for (int plain; (plain = raw.IndexOfAnyExcept(isPath ? PlainInPath : PlainInQuery)) >= 0;)
        {
            text.Append(raw[..plain]);
            raw = raw[plain..];
            if (raw is ['%', var high, var low, ..] && (isPath ? high == '2' && (low is 'F' or 'f') : char.IsAsciiHexDigit(high) && char.IsAsciiHexDigit(low)))
            {
                text.Append(raw[..3]);
                raw = raw[3..];
                continue;
            }

            // Half a surrogate pair becomes U+FFFD.
            Rune.DecodeFromUtf16(raw, out Rune rune, out int length);
            foreach (byte value in bytes[..rune.EncodeToUtf8(bytes)])
            {
                text.Append('%').Append(value.ToString("X2", CultureInfo.InvariantCulture));
            }

            raw = raw[length..];
        }

        text.Append(raw);
    }
}
