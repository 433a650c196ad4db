using System.Globalization;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Webhooks.Delivery.Sqlite;

/// <summary>Options with a name that know their own rules.</summary>
internal interface IValidOptions
{
    public string Name { get; set; }

    public IEnumerable<string> Problems();
}

internal static class ValidOptions
{
    public static void ThrowIfInvalid(this IValidOptions options)
    {
        List<string> problems = [.. options.Problems()];
        if (problems.Count > 0)
        {
            throw new OptionsValidationException(options.Name ?? "", options.GetType(), problems);
        }
    }

    public static string Problem(this IValidOptions options, string property, string rule, object? value) =>
        Invariant($"{(string.IsNullOrEmpty(options.Name) ? options.GetType().Name : options.Name)}: {property} must be {rule}, but is {value}.");

    public static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
