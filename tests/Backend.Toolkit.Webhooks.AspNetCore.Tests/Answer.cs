using System.Text.Json;

namespace Backend.Toolkit.Webhooks.AspNetCore.Tests;

/// <summary>What came back.</summary>
internal sealed record Answer(int Status, string Body, IReadOnlyDictionary<string, string> Headers)
{
    /// <summary>Of a problem.</summary>
    public string? Code => Headers.GetValueOrDefault("Content-Type") == "application/problem+json" ? JsonDocument.Parse(Body).RootElement.GetProperty("code").GetString() : null;

    public int? RetryAfter => Headers.TryGetValue("Retry-After", out string? seconds) ? int.Parse(seconds, System.Globalization.CultureInfo.InvariantCulture) : null;

    public static async Task<Answer> OfAsync(HttpResponseMessage response) => new((int)response.StatusCode, await response.Content.ReadAsStringAsync(), response.Headers.Concat(response.Content.Headers)
        .Where(header => header.Key is not ("Date" or "Server"))
        .ToDictionary(header => header.Key, header => string.Join(" | ", header.Value), StringComparer.OrdinalIgnoreCase));
}
