using System.Globalization;
using System.Text.Json.Serialization;

namespace Backend.Toolkit.Pagination;

/// <summary>How many rows all pages have together.</summary>
/// <param name="Count">The rows counted.</param>
/// <param name="IsCapped">True: there are more than <paramref name="Count"/>; the count was stopped there.</param>
public readonly record struct PageTotal(
    [property: JsonPropertyName("count"), JsonIgnore(Condition = JsonIgnoreCondition.Never)] long Count,
    [property: JsonPropertyName("isCapped"), JsonIgnore(Condition = JsonIgnoreCondition.Never)] bool IsCapped)
{
    /// <summary>The count, with a plus sign when there are more.</summary>
    /// <returns>Such as <c>17</c> or <c>1000+</c>.</returns>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Count}{(IsCapped ? "+" : "")}");
}
