using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.Idempotency.Processes.Tests;

/// <summary>Between the middleware and the client: what comes here has been recorded. A node may die before it writes, and in the middle.</summary>
internal sealed class MortalStream(HttpContext context, NodeSettings settings) : Stream
{
    private readonly Stream _inner = context.Response.Body;

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (context.Response.StatusCode == StatusCodes.Status200OK && buffer.Length > 1)
        {
            Node.Reach(settings, DeathPoint.Completion);
            await _inner.WriteAsync(buffer[..(buffer.Length / 2)], cancellationToken);
            await _inner.FlushAsync(cancellationToken);
            Node.Reach(settings, DeathPoint.Response);
            buffer = buffer[(buffer.Length / 2)..];
        }

        await _inner.WriteAsync(buffer, cancellationToken);
    }

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override Task FlushAsync(CancellationToken cancellationToken) => _inner.FlushAsync(cancellationToken);

    public override void Flush() => throw new NotSupportedException();

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}
