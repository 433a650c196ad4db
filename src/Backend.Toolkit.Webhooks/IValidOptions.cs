using System.Globalization;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Webhooks;

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
        Invariant($"{options.Subject()}: {property} must be {rule}, but is {value}.");

    /// <summary>What a problem sentence is about: the name, else the type.</summary>
    public static string Subject(this IValidOptions options) => string.IsNullOrEmpty(options.Name) ? options.GetType().Name.Split('`')[0] : options.Name;

    public static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
