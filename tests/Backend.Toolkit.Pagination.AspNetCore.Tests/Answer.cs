using System.Net;
using System.Text.Json;

namespace Backend.Toolkit.Pagination.AspNetCore.Tests;

internal sealed record Answer(HttpStatusCode Status, string? Link, string? ContentType, string Body, IReadOnlyList<string> Headers)
{
    public JsonElement Json => JsonDocument.Parse(Body).RootElement;

    public int[] Ids => [.. Json.GetProperty("items").EnumerateArray().Select(item => item.GetProperty("id").GetInt32())];

    public string? Next => Json.GetProperty("next").GetString();

    public string? Previous => Json.GetProperty("previous").GetString();

    public void ShouldBeAProblem(string type, string reason)
    {
        Status.Should().Be(HttpStatusCode.BadRequest, "{0}", Body);
        ContentType.Should().StartWith("application/problem+json");
        JsonElement problem = Json;
        problem.GetProperty("type").GetString().Should().Be($"urn:problem-type:backend-toolkit:{type}");
        problem.GetProperty("status").GetInt32().Should().Be(400);
        problem.GetProperty("reason").GetString().Should().Be(reason);
        problem.GetProperty("title").GetString().Should().NotBeNullOrEmpty();
        problem.GetProperty("detail").GetString().Should().NotBeNullOrEmpty();
        Body.Should().NotContain("Exception");
    }
}
