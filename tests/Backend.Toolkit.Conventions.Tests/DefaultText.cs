using System.Collections;
using System.Globalization;
using System.Text.RegularExpressions;

namespace Backend.Toolkit.Conventions.Tests;

/// <summary>Compares the default that a document tells with the one that the code has: <c>30 s</c>, <c>1 024</c>, <c>10 %</c>, <c>none</c>.</summary>
internal static partial class DefaultText
{
    public static bool Tells(string cell, object? value, Type type)
    {
        string text = cell.Replace("`", "", StringComparison.Ordinal).Replace('\u00a0', ' ').Replace('\u202f', ' ').Replace("\u2212", "-", StringComparison.Ordinal).Trim();
        return value switch
        {
            null => Words(text).Intersect(["null", "none", "off", "unlimited", "infinite"]).Any() || (Nullable.GetUnderlyingType(type) is null && text.StartsWith("the argument of ", StringComparison.Ordinal)),
            string { Length: > 0 } name => text == name || text.StartsWith(name + ' ', StringComparison.Ordinal),
            bool flag => Words(text).FirstOrDefault() is string word && (flag ? word is "true" or "on" or "yes" : word is "false" or "off" or "no"),
            Enum => text.Split('.', ' ', ',', ';', '(').Contains(value.ToString(), StringComparer.OrdinalIgnoreCase),
            TimeSpan time => time == Timeout.InfiniteTimeSpan ? Words(text).Contains("infinite") : Time(text) == time,
            ICollection { Count: 0 } => Words(text).Intersect(["none", "empty"]).Any(),
            ICollection items => items.Cast<object>().All(item => Words(text).Contains(Convert.ToString(item, CultureInfo.InvariantCulture)!.ToLowerInvariant())),
            IConvertible number and not string => Number(text) is double told && Math.Abs(told - number.ToDouble(CultureInfo.InvariantCulture)) < 1e-9,
            _ => text.Length > 0,
        };
    }

    private static IEnumerable<string> Words(string text) => text.ToLowerInvariant().Split([' ', ',', ':', ';', '(', ')'], StringSplitOptions.RemoveEmptyEntries);

    private static double? Number(string text)
    {
        Match match = LeadingNumber().Match(text);
        return !match.Success ? null
            : double.Parse(Grouping().Replace(match.Groups["number"].Value, ""), CultureInfo.InvariantCulture) * (match.Groups["percent"].Success ? 0.01 : 1);
    }

    private static TimeSpan? Time(string text)
    {
        if (text.Contains(':', StringComparison.Ordinal) && TimeSpan.TryParseExact(text.Split(' ')[0], "c", CultureInfo.InvariantCulture, out TimeSpan written))
        {
            return written;
        }

        Match match = LeadingTime().Match(text);
        if (!match.Success)
        {
            return Number(text) == 0 ? TimeSpan.Zero : null;
        }

        double number = double.Parse(Grouping().Replace(match.Groups["number"].Value, ""), CultureInfo.InvariantCulture);
        return number * match.Groups["unit"].Value switch
        {
            "ms" => TimeSpan.FromMilliseconds(1),
            "s" => TimeSpan.FromSeconds(1),
            "d" or "day" or "days" => TimeSpan.FromDays(1),
            "h" or "hour" or "hours" => TimeSpan.FromHours(1),
            _ => TimeSpan.FromMinutes(1),
        };
    }

    [GeneratedRegex(@"^(?<number>-?\d+([ ,_]\d{3})*(\.\d+)?)(?<percent> ?%)?(?![\d.])")]
    private static partial Regex LeadingNumber();

    [GeneratedRegex(@"^(?<number>\d+([ ,_]\d{3})*(\.\d+)?) ?(?<unit>ms|s|min|minutes?|h|hours?|d|days?)\b")]
    private static partial Regex LeadingTime();

    [GeneratedRegex("[ ,_]")]
    private static partial Regex Grouping();
}
