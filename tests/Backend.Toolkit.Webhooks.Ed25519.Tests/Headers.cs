namespace Backend.Toolkit.Webhooks.Ed25519.Tests;

/// <summary>Headers by name, whatever its case.</summary>
internal sealed class Headers() : Dictionary<string, string>(StringComparer.OrdinalIgnoreCase)
{
    public static Func<Headers, string, string?> Read { get; } = static (headers, name) => headers.GetValueOrDefault(name);

    public static WebhookHeaderWriter<Headers> Write { get; } = static (headers, name, value) => headers[name] = value.ToString();
}
