using System.Net.Http.Json;

namespace Backend.Toolkit.Http;

/// <summary>Which content can be sent twice, byte for byte.</summary>
internal static class RequestContent
{
    /// <summary>Whether the content by itself gives the same bytes each time.</summary>
    public static bool IsReplayable(HttpContent? content) => content switch
    {
        null or ByteArrayContent or ReadOnlyMemoryContent => true,
        MultipartContent parts => parts.All(IsReplayable),

        // Goes back to where it started, when its stream can.
        StreamContent => content.GetType() == typeof(StreamContent) && content.ReadAsStream().CanSeek,
        _ => false,
    };

    /// <summary>Keeps the content in memory, if it is known to be small, or is an object that can be written once more when it turns out too large.</summary>
    /// <returns>Whether it can be sent twice now.</returns>
    public static async Task<bool> TryBufferAsync(HttpContent content, int limit, CancellationToken cancellationToken)
    {
        bool rewritable = content is JsonContent json && !IsReadOnce(json.ObjectType);
        long? length = content.Headers.ContentLength;
        if (limit == 0 || (length is null && !rewritable) || length > limit)
        {
            return false;
        }

        try
        {
            await content.LoadIntoBufferAsync(limit, cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (HttpRequestException) when (rewritable && !cancellationToken.IsCancellationRequested)
        {
            return false;
        }
    }

    /// <summary>A sequence may give its items once only.</summary>
    private static bool IsReadOnce(Type type) =>
        type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IAsyncEnumerable<>)
        || typeof(System.Collections.IEnumerator).IsAssignableFrom(type);
}
