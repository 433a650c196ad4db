using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>
/// What a key is bound to: SHA-256 over method, path (with its base), query and content type, each preceded by its length, and the raw body. Reads the body to its end and leaves it at its
/// start for whoever reads next, in memory up to a bound and behind that in a temporary file that is deleted when it is closed.
/// </summary>
internal static class RequestFingerprint
{
    private const int ChunkSize = 16_384;

    /// <returns>32 bytes; null when the body is too long.</returns>
    /// <exception cref="InvalidOperationException">Somebody has read the body before.</exception>
    /// <exception cref="IOException">The body stops half-way, or is longer than the server allows.</exception>
    public static async ValueTask<byte[]?> ComputeAsync(HttpRequest request, long maxBytes, int maxBytesInMemory, CancellationToken cancellationToken)
    {
        if (request.ContentLength > maxBytes)
        {
            return null;
        }

        using IncrementalHash hash = Start(request);
        if (request.ContentLength != 0 && request.HttpContext.Features.Get<IHttpRequestBodyDetectionFeature>()?.CanHaveBody != false)
        {
            if (request.Body.CanSeek)
            {
                request.Body.Position = 0;
            }
            else if (request.HttpContext.Features.Get<IFormFeature>() is { Form: not null })
            {
                throw new InvalidOperationException("The form of the request was read before its fingerprint could be taken. Call app.UseIdempotency() before what reads the body, or EnableBuffering() there.");
            }
            else
            {
                request.EnableBuffering((int)Math.Min(request.ContentLength ?? maxBytesInMemory, maxBytesInMemory), long.MaxValue);
            }

            if (!await TryAppendAsync(hash, request.Body, maxBytes, cancellationToken).ConfigureAwait(false))
            {
                return null;
            }

            request.Body.Position = 0;
        }

        return hash.GetHashAndReset();
    }

    internal static IncrementalHash Start(HttpRequest request)
    {
        IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Append(hash, request.Method);
        Append(hash, request.PathBase.HasValue ? request.PathBase.Value + request.Path.Value : request.Path.Value);
        Append(hash, request.QueryString.Value);
        Append(hash, request.ContentType);
        return hash;
    }

    /// <returns>False when there are more bytes than that.</returns>
    internal static async ValueTask<bool> TryAppendAsync(IncrementalHash hash, Stream body, long maxBytes, CancellationToken cancellationToken)
    {
        byte[] chunk = ArrayPool<byte>.Shared.Rent(ChunkSize);
        try
        {
            long left = maxBytes;
            int read;
            while ((read = await body.ReadAsync(chunk, cancellationToken).ConfigureAwait(false)) > 0)
            {
                left -= read;
                if (left < 0)
                {
                    return false;
                }

                hash.AppendData(chunk, 0, read);
            }

            return true;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(chunk);
        }
    }

    /// <summary>As UTF-16, which every string has exactly one form in.</summary>
    private static void Append(IncrementalHash hash, string? part)
    {
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(part.AsSpan());
        Span<byte> length = stackalloc byte[sizeof(int)];
        BinaryPrimitives.WriteInt32BigEndian(length, part is null ? -1 : bytes.Length);
        hash.AppendData(length);
        hash.AppendData(bytes);
    }
}
