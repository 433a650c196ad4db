using System.ComponentModel;
using System.Globalization;

namespace Backend.Toolkit.Webhooks;

/// <summary>Configuration names a scheme.</summary>
internal sealed class WebhookSchemeConverter : TypeConverter
{
    public override bool CanConvertFrom(ITypeDescriptorContext? context, Type sourceType) => sourceType == typeof(string);

    public override object? ConvertFrom(ITypeDescriptorContext? context, CultureInfo? culture, object value) =>
        WebhookScheme.Known.FirstOrDefault(scheme => scheme.Name.Equals(value as string, StringComparison.OrdinalIgnoreCase))
        ?? throw new FormatException($"A scheme is one of {string.Join(", ", WebhookScheme.Known)}, but is '{value}'.");
}
