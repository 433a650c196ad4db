using System.Text.Json;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

/// <summary>What came back.</summary>
internal sealed record Answer(int Status, string Body, byte[] Bytes, IReadOnlyDictionary<string, string> Headers)
{
    public bool IsReplay => Headers.GetValueOrDefault("Idempotent-Replayed") == "true";

    /// <summary>Of a problem.</summary>
    public string? Code => Headers.GetValueOrDefault("Content-Type") == "application/problem+json" ? Json.GetProperty("code").GetString() : null;

    public JsonElement Json => JsonDocument.Parse(Body).RootElement;

    public static async Task<Answer> OfAsync(HttpResponseMessage response)
    {
        byte[] bytes = await response.Content.ReadAsByteArrayAsync();
        return new Answer((int)response.StatusCode, System.Text.Encoding.UTF8.GetString(bytes), bytes, response.Headers.Concat(response.Content.Headers)
            .Where(header => header.Key is not ("Date" or "Server"))
            .ToDictionary(header => header.Key, header => string.Join(" | ", header.Value), StringComparer.OrdinalIgnoreCase));
    }

    /// <summary>The same but for the marker.</summary>
    public void ShouldBeReplayOf(Answer first, params string[] butWithout)
    {
        IsReplay.Should().BeTrue();
        first.IsReplay.Should().BeFalse();
        Status.Should().Be(first.Status);
        Bytes.Should().Equal(first.Bytes);
        Headers.Where(header => header.Key != "Idempotent-Replayed").Should().BeEquivalentTo(first.Headers.Where(header => !butWithout.Contains(header.Key)));
    }
}
