using System.Net.Http.Json;

namespace Backend.Toolkit.Http;

/// <summary>Which content can be sent twice, byte for byte.</summary>
internal static class RequestContent
{
    /// <summary>Whether the content by itself gives the same bytes each time.</summary>
    public static bool IsReplayable(HttpContent? content) => content switch
    {
        null or ByteArrayContent or ReadOnlyMemoryContent => true,
        BufferedContent buffered => buffered.IsWhole,
        MultipartContent parts => parts.All(IsReplayable),

        // Goes back to where it started, when its stream can.
        StreamContent => content.GetType() == typeof(StreamContent) && content.ReadAsStream().CanSeek,
        _ => false,
    };

    /// <summary>
    /// Whether it is worth the try to keep the content in memory: it is known to be small, or made of an object in memory. A sequence that comes bit by bit is not: it would
    /// be held up until its end.
    /// </summary>
    public static bool MayBeSmall(HttpContent content, int limit) => limit > 0
        && (content.Headers.ContentLength is { } length
            ? length <= limit
            : content is JsonContent { ObjectType: var type } && !(type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IAsyncEnumerable<>)));
}
