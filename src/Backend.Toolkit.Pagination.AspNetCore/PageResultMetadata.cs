namespace Backend.Toolkit.Pagination.AspNetCore;

/// <summary>An endpoint whose answers have a <c>Link</c> header.</summary>
internal sealed class PageResultMetadata
{
    public static PageResultMetadata Instance { get; } = new();
}
