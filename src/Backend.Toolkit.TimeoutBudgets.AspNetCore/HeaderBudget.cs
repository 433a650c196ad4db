using System.Buffers;
using Microsoft.Extensions.Primitives;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

/// <summary>
/// Reads <c>Timeout-Budget</c> and <c>x-envoy-expected-rq-timeout-ms</c>: milliseconds, 1 to 19 digits from 0 to 9. Several values, in one line or
/// in many, count as the least when each is good. Linear time, no allocation, no culture, no exception.
/// </summary>
internal static class HeaderBudget
{
    private const int MostDigits = 19;

    private static readonly SearchValues<char> Digits = SearchValues.Create("0123456789");

    /// <returns>Whether every value is good. <paramref name="budget"/> is the least of them then, at most <see cref="TimeSpan.MaxValue"/>.</returns>
    public static bool TryParse(StringValues lines, out TimeSpan budget)
    {
        ulong least = ulong.MaxValue;
        bool good = lines.Count > 0;
        for (int i = 0; good && i < lines.Count; i++)
        {
            ReadOnlySpan<char> line = lines[i];
            for (int comma; good && (comma = line.IndexOf(',')) >= 0; line = line[(comma + 1)..])
            {
                good = TryTakeLeast(line[..comma], ref least);
            }

            good = good && TryTakeLeast(line, ref least);
        }

        budget = !good ? default : least >= (ulong)(TimeSpan.MaxValue.Ticks / TimeSpan.TicksPerMillisecond) ? TimeSpan.MaxValue : TimeSpan.FromMilliseconds((long)least);
        return good;
    }

    private static bool TryTakeLeast(ReadOnlySpan<char> value, ref ulong least)
    {
        // The blanks that HTTP allows around a value of a list.
        value = value.Trim(" \t");
        if (value.Length is 0 or > MostDigits || value.ContainsAnyExcept(Digits))
        {
            return false;
        }

        // 19 digits never overflow.
        ulong milliseconds = 0;
        foreach (char digit in value)
        {
            milliseconds = (milliseconds * 10) + (ulong)(digit - '0');
        }

        least = Math.Min(least, milliseconds);
        return true;
    }
}
