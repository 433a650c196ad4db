using System.Globalization;
using System.Text.RegularExpressions;
using Microsoft.EntityFrameworkCore.Storage;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>
/// What becomes of a value in its column. A cursor may hold the key of an entity that was just saved, with its 100 nanoseconds, while PostgreSQL has kept microseconds, or as many digits as the column's type says; a
/// comparison with more digits than are stored would lose the row.
/// </summary>
internal static partial class StoredValue
{
    private const int MostDigits = 6;

    /// <summary>Where PostgreSQL counts from; its rounding goes away from there.</summary>
    private static readonly long PostgreSqlEpoch = new DateTime(2000, 1, 1).Ticks;

    /// <returns>Null: values stay as they are.</returns>
    public static Func<TKey, TKey>? Rounding<TKey>(SqlDialect dialect, RelationalTypeMapping? mapping, string? declaredType)
    {
        if (dialect != SqlDialect.PostgreSql || mapping?.Converter is not null)
        {
            return null;
        }

        Type type = Nullable.GetUnderlyingType(typeof(TKey)) ?? typeof(TKey);
        if (type == typeof(decimal))
        {
            return (Scale(mapping?.StoreType) ?? Scale(declaredType)) is int scale ? Typed<TKey, decimal>(value => Math.Round(value, Math.Min(scale, 28), MidpointRounding.AwayFromZero)) : null;
        }

        int digits = Math.Min(mapping?.Precision ?? Digits(mapping?.StoreType) ?? Digits(declaredType) ?? MostDigits, MostDigits);
        return type == typeof(DateTime) ? Typed<TKey, DateTime>(value => value == DateTime.MinValue || value == DateTime.MaxValue ? value : new DateTime(Within(PostgreSqlEpoch + Round(value.Ticks - PostgreSqlEpoch, digits)), value.Kind))
            : type == typeof(DateTimeOffset) ? Typed<TKey, DateTimeOffset>(value => value == DateTimeOffset.MinValue || value == DateTimeOffset.MaxValue ? value : new DateTimeOffset(Within(PostgreSqlEpoch + Round(value.UtcTicks - PostgreSqlEpoch, digits)), TimeSpan.Zero))
            : type == typeof(TimeOnly) ? Typed<TKey, TimeOnly>(value => new TimeOnly(Math.Min(Round(value.Ticks, digits), TimeOnly.MaxValue.Ticks)))
            : type == typeof(TimeSpan) ? Typed<TKey, TimeSpan>(value => new TimeSpan(Round(value.Ticks, digits)))
            : null;
    }

    /// <summary>Ticks as microseconds, what is left over cut off, as Npgsql does; then rounded to fewer digits, half away from zero, as PostgreSQL does.</summary>
    private static long Round(long ticks, int digits)
    {
        long microseconds = ticks / TimeSpan.TicksPerMicrosecond;
        long step = 1;
        for (int i = digits; i < MostDigits; i++)
        {
            step *= 10;
        }

        long half = step / 2;
        long rounded = microseconds >= 0 ? (microseconds + half) / step * step : -((-microseconds + half) / step * step);
        return rounded * TimeSpan.TicksPerMicrosecond;
    }

    private static long Within(long ticks) => Math.Clamp(ticks, DateTime.MinValue.Ticks, DateTime.MaxValue.Ticks);

    private static Func<TKey, TKey> Typed<TKey, TValue>(Func<TValue, TValue> round)
        where TValue : struct => typeof(TKey) == typeof(TValue)
        ? (Func<TKey, TKey>)(object)round
        : (Func<TKey, TKey>)(object)new Func<TValue?, TValue?>(value => value is TValue there ? round(there) : null);

    private static int? Digits(string? type) => type is not null && DigitsOfTime().Match(type) is { Success: true } match ? int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture) : null;

    private static int? Scale(string? type) => type is not null && PrecisionAndScale().Match(type) is { Success: true } match ? match.Groups[1].Success ? int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture) : 0 : null;

    [GeneratedRegex(@"^\s*(?:time|timestamp|timetz|timestamptz|interval)\b[^(]*\(\s*(\d)\s*\)", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex DigitsOfTime();

    [GeneratedRegex(@"^\s*(?:numeric|decimal)\s*\(\s*\d+\s*(?:,\s*(\d+)\s*)?\)", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex PrecisionAndScale();
}
