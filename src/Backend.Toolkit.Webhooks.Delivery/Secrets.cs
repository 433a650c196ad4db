using System.Globalization;
using System.Text;

namespace Backend.Toolkit.Webhooks.Delivery;

/// <summary>The secrets of an endpoint as they are stored: a line for each, with the time at which it expires (0: never) and the protected secret in base64. The newest is first.</summary>
internal static class Secrets
{
    private const string Prefix = "whsec_";
    private const int Most = 5;

    /// <exception cref="ArgumentException">It is no secret of Standard Webhooks.</exception>
    public static string ThrowIfBad(string secret)
    {
        var options = new WebhookSignerOptions { Name = "The secret of an endpoint", Keys = { new WebhookKey(secret) } };
        string? problem = secret.StartsWith(Prefix, StringComparison.Ordinal) ? options.Problems().FirstOrDefault() : "A secret must begin with whsec_.";
        return problem is null ? secret : throw new ArgumentException(problem, nameof(secret));
    }

    public static string Add(string stored, string secret, DateTimeOffset othersExpire, DateTimeOffset now, WebhookDeliveryOptions options)
    {
        IEnumerable<string> others = Lines(stored)
            .Where(line => !HasExpired(line.Expires, now))
            .Select(line => Line(line.Expires == 0 ? othersExpire.ToUnixTimeMilliseconds() : Math.Min(line.Expires, othersExpire.ToUnixTimeMilliseconds()), line.Protected))
            .Where(line => othersExpire > now);
        return string.Join('\n', others.Take(Most - 1).Prepend(Line(0, options.Protect is null ? secret : options.Protect(secret))));
    }

    /// <summary>The keys to sign with, newest first.</summary>
    public static IEnumerable<WebhookKey> Keys(string stored, DateTimeOffset now, WebhookDeliveryOptions options) => Lines(stored)
        .Where(line => !HasExpired(line.Expires, now))
        .Select(line => new WebhookKey(options.Unprotect is null ? line.Protected : options.Unprotect(line.Protected))
        {
            Expires = line.Expires == 0 ? null : DateTimeOffset.FromUnixTimeMilliseconds(line.Expires),
        });

    private static bool HasExpired(long expires, DateTimeOffset now) => expires != 0 && expires <= now.ToUnixTimeMilliseconds();

    private static string Line(long expires, string protectedSecret) => $"{expires.ToString(CultureInfo.InvariantCulture)} {Convert.ToBase64String(Encoding.UTF8.GetBytes(protectedSecret))}";

    private static IEnumerable<(long Expires, string Protected)> Lines(string stored) => stored.Split('\n', StringSplitOptions.RemoveEmptyEntries)
        .Select(line => line.Split(' '))
        .Select(parts => (long.Parse(parts[0], CultureInfo.InvariantCulture), Encoding.UTF8.GetString(Convert.FromBase64String(parts[1]))));
}
