using System.Text;
using Backend.Toolkit.Webhooks.Delivery.Sqlite;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

internal static class Support
{
    public const string Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    public static DateTimeOffset Start { get; } = new(2026, 5, 1, 0, 0, 0, TimeSpan.Zero);

    /// <summary>Options with which loopback may be reached; nothing else is different.</summary>
    public static WebhookDeliveryOptions Options(Action<WebhookDeliveryOptions>? configure = null)
    {
        var options = new WebhookDeliveryOptions { Name = "tests", AllowHttp = true, AllowedNetworks = { "127.0.0.1/32" } };
        configure?.Invoke(options);
        return options;
    }

    public static WebhookClaim Claim(string url = "https://example.com/", string? secrets = null, int attempts = 0, TimeSpan age = default, int failures = 0, TimeSpan? failingFor = null, WebhookDeliveryOptions? options = null) => new(
        1,
        7,
        attempts,
        age,
        new WebhookEventRow("msg_1", "order.created", "acme", null, null, null, Encoding.UTF8.GetBytes("""{"n":1}""")),
        new WebhookEndpoint("ep_1", "acme", url, [], true, null, failures, null, null, Start),
        secrets ?? Secrets.Add("", Secret, Start, Start, options ?? Options()),
        failingFor);

    public static SqliteWebhookDeliveryStore Store(SqliteDatabase database, TimeProvider time) => new(new() { Name = "tests", ConnectionString = database.ConnectionString }, time);

    public static async Task UntilAsync(Func<Task<bool>> condition, string what, int seconds = 30)
    {
        long begun = TimeProvider.System.GetTimestamp();
        while (!await condition())
        {
            if (TimeProvider.System.GetElapsedTime(begun) > TimeSpan.FromSeconds(seconds))
            {
                throw new TimeoutException($"Not within {seconds} s: {what}");
            }

            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System, CancellationToken.None);
        }
    }

    public static Task UntilAsync(Func<bool> condition, string what) => UntilAsync(() => Task.FromResult(condition()), what);
}
