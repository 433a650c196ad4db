using System.Text.RegularExpressions;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>The little of Markdown that the rules need: fenced blocks, tables, links, headings.</summary>
internal static partial class Markdown
{
    public static IEnumerable<(string Language, string[] Lines)> CodeBlocks(string text) =>
        Fence().Matches(text).Select(match => (match.Groups["language"].Value.Trim(), match.Groups["code"].Value.TrimEnd('\n').Split('\n')));

    /// <summary><c>using System.Text;</c>, with which a whole program begins.</summary>
    public static bool IsDirective(string line) => Directive().IsMatch(line);

    /// <summary>Of each row of a table that has a column called Default: the first cell, and that one.</summary>
    public static IEnumerable<(string Name, string Default)> Defaults(string text)
    {
        int column = -1;
        foreach (string line in text.Split('\n').Select(line => line.Trim()))
        {
            if (!line.StartsWith('|'))
            {
                column = -1;
                continue;
            }

            string[] cells = [.. line.Trim('|').Split('|').Select(cell => cell.Trim())];
            if (column < 0)
            {
                column = Array.FindIndex(cells, cell => cell.Equals("default", StringComparison.OrdinalIgnoreCase));
            }
            else if (column < cells.Length)
            {
                yield return (cells[0], cells[column]);
            }
        }
    }

    public static IEnumerable<string> Links(string text) => Link().Matches(WithoutCode(text)).Select(match => match.Groups["target"].Value);

    /// <summary>The anchors of the headings, as they are made where Markdown is shown.</summary>
    public static IEnumerable<string> Anchors(string text) => Heading().Matches(WithoutCode(text))
        .Select(match => NotInAnchor().Replace(match.Groups["title"].Value.Trim().ToLowerInvariant(), "").Replace(' ', '-'));

    private static string WithoutCode(string text) => Fence().Replace(text, "");

    [GeneratedRegex(@"^[ ]*```(?<language>[^\n]*)\n(?<code>.*?)^[ ]*```[ ]*$", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Fence();

    [GeneratedRegex(@"\[[^\]\n]*\]\((?<target>[^)\s]+)(\s+""[^""]*"")?\)|^\[[^\]\n]+\]:\s*(?<target>\S+)", RegexOptions.Multiline)]
    private static partial Regex Link();

    [GeneratedRegex(@"^#{1,6}\s+(?<title>.+)$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    [GeneratedRegex(@"^using [\w.]+;$")]
    private static partial Regex Directive();

    [GeneratedRegex(@"[^\w\- ]")]
    private static partial Regex NotInAnchor();
}
