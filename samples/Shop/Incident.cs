using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;

namespace Shop;

/// <summary>A row of the table at the end: what was played, what was measured, the number to remember first, and what it was with the toolkit and without.</summary>
internal sealed record Incident(string What, string Measured, string With, string Without)
{
    public static string Milliseconds(TimeSpan? time) => time is { } known ? string.Create(CultureInfo.InvariantCulture, $"{known.TotalMilliseconds:0} ms") : "never";

    public static string Percent(double share) => string.Create(CultureInfo.InvariantCulture, $"{100 * share:0} %");
}

/// <summary>All incidents of a tour, as people read them.</summary>
internal sealed partial record Summary(IReadOnlyList<Incident> Incidents, IReadOnlyList<string> Notes)
{
    private static readonly string[] Head = ["incident", "measured", "with", "without"];

    private IEnumerable<string[]> Rows => Incidents.Select(incident => new[] { incident.What, incident.Measured, incident.With, incident.Without });

    /// <summary>In columns, as wide as they need to be; where that is too wide, a cell to a line.</summary>
    /// <param name="width">How many columns a line has; 0: as many as it needs.</param>
    public string Text(int width = 0)
    {
        string[][] rows = [Head, .. Rows];
        int[] widths = [.. Head.Select((_, column) => rows.Max(row => row[column].Length))];
        string[] table = [.. rows.Select(row => string.Join("   ", row.Select((cell, column) => cell.PadRight(widths[column]))).TrimEnd())];
        if (width > 0 && table.Max(line => line.Length) > width)
        {
            table = [.. Rows.SelectMany(row => row.Select((cell, column) => column == 0 ? cell : $"  {Head[column],-8}   {cell}"))];
        }

        return string.Join(Environment.NewLine, [.. table, .. Notes.Prepend("").Where((_, i) => i > 0 || Notes.Count > 0)]);
    }

    /// <param name="command">Repeats it.</param>
    /// <param name="at">When it was played.</param>
    public string Markdown(string command, DateTimeOffset at)
    {
        var text = new StringBuilder();
        text.AppendLine("# Incidents, with Backend.Toolkit and without").AppendLine();
        text.AppendLine(Escape(string.Create(
            CultureInfo.InvariantCulture,
            $"Measured on {at.UtcDateTime:yyyy-MM-dd HH:mm} UTC: {Environment.ProcessorCount} cores, {RuntimeInformation.OSDescription} ({RuntimeInformation.OSArchitecture}), {RuntimeInformation.FrameworkDescription}."))).AppendLine();
        text.AppendLine(Row(Head)).AppendLine("|---|---|---|---|");
        foreach (string[] row in Rows)
        {
            text.AppendLine(Row(row));
        }

        foreach (string note in Notes)
        {
            text.AppendLine().AppendLine(Escape(note));
        }

        text.AppendLine().AppendLine("Again:").AppendLine().AppendLine("```sh").AppendLine(command).AppendLine("```");
        return text.ToString();

        static string Row(string[] cells) => $"| {string.Join(" | ", cells.Select(Escape))} |";
    }

    /// <summary>As it reads, whatever it is: no markup, no end of a cell or of a line.</summary>
    private static string Escape(string text) => Markup().Replace(LineEnds().Replace(text, " "), @"\$0");

    [GeneratedRegex(@"[\\`*_\[\]<>|&~#]")]
    private static partial Regex Markup();

    [GeneratedRegex(@"\s*[\r\n\u0085\u2028\u2029]\s*")]
    private static partial Regex LineEnds();
}
