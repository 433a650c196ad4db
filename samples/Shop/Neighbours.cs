using Backend.Toolkit.Webhooks;

namespace Shop;

/// <summary>Where payments and the customer are, and what webhooks between them and the shop are signed with: in processes of their own, as the arguments say, or in this one.</summary>
internal sealed class Neighbours(IConfiguration configuration, IServiceProvider services)
{
    public const string Hook = "/hook";

    /// <summary>Known once payments has started.</summary>
    public Uri Payments => Outside(configuration, "payments") ?? new Uri(services.GetRequiredService<PaymentsService>().Address);

    /// <summary>Known once the customer has started.</summary>
    public Uri Customer => Outside(configuration, "customer") ?? new Uri(services.GetRequiredService<Customer>().Address);

    /// <summary>What payments signs with, and the shop verifies with.</summary>
    public string PaymentsSecret { get; } = configuration["payments-secret"] ?? WebhookKey.NewSecret();

    /// <summary>What the shop signs with, and the customer verifies with: another one, or the customer could speak for payments.</summary>
    public string CustomerSecret { get; } = configuration["customer-secret"] ?? WebhookKey.NewSecret();

    /// <returns>Null: in this process.</returns>
    public static Uri? Outside(IConfiguration configuration, string name)
    {
        if (configuration[name] is not { } url)
        {
            return null;
        }

        if (!Uri.TryCreate(url, UriKind.Absolute, out Uri? uri) || uri.Scheme is not ("http" or "https"))
        {
            throw new ArgumentException($"--{name} must be a URL such as http://127.0.0.1:5090, but is {url}.");
        }

        _ = Secret(configuration, name);
        return uri;
    }

    public static string Secret(IConfiguration configuration, string name) =>
        configuration[$"{name}-secret"] ?? throw new ArgumentException($"{name} in a process of its own needs --{name}-secret, whsec_ and 24 bytes or more in base64, the same there and here.");
}
