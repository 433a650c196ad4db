namespace Backend.Toolkit.Pagination;

/// <summary>Finds a relation in <c>Link</c> headers (RFC 8288, section 3). Linear in the length of the header, whatever is in it.</summary>
internal static class WebLink
{
    /// <returns>The first target whose relations include that one; null: there is none.</returns>
    public static string? Find(string header, string relation)
    {
        int at = 0;
        while (at < header.Length)
        {
            int open = header.IndexOf('<', at);
            int close = open < 0 ? -1 : header.IndexOf('>', open);
            if (close < 0)
            {
                return null;
            }

            at = close + 1;
            if (HasRelation(header, relation, ref at))
            {
                return header[(open + 1)..close].Trim();
            }
        }

        return null;
    }

    /// <summary>Reads the parameters of one link up to the comma behind them.</summary>
    private static bool HasRelation(string header, string relation, ref int at)
    {
        bool? found = null;
        while (at < header.Length && header[at] != ',')
        {
            if (header[at] != ';')
            {
                at++;
                continue;
            }

            at++;
            int start = at;
            while (at < header.Length && header[at] is not ('=' or ';' or ','))
            {
                at++;
            }

            ReadOnlySpan<char> name = header.AsSpan(start, at - start).Trim();
            if (at >= header.Length || header[at] != '=')
            {
                continue;
            }

            at++;
            string value = Value(header, ref at);

            // A second rel of the same link does not count.
            if (found is null && name.Equals("rel", StringComparison.OrdinalIgnoreCase))
            {
                found = value.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries).Contains(relation, StringComparer.OrdinalIgnoreCase);
            }
        }

        at++;
        return found == true;
    }

    private static string Value(string header, ref int at)
    {
        while (at < header.Length && (header[at] is ' ' or '\t'))
        {
            at++;
        }

        int start = at;
        if (at < header.Length && header[at] == '"')
        {
            for (at++; at < header.Length && header[at] != '"'; at++)
            {
                at += header[at] == '\\' ? 1 : 0;
            }

            at = Math.Min(at, header.Length);
            string quoted = header[(start + 1)..at].Replace("\\", "", StringComparison.Ordinal);
            at = Math.Min(at + 1, header.Length);
            return quoted;
        }

        while (at < header.Length && header[at] is not (';' or ','))
        {
            at++;
        }

        return header[start..at].Trim();
    }
}
