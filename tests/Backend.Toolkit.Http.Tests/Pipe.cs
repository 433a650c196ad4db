using System.Threading.Channels;

namespace Backend.Toolkit.Http.Tests;

/// <summary>A body that comes when the test says so.</summary>
internal sealed class Pipe : Stream
{
    private readonly Channel<byte> _bytes = Channel.CreateUnbounded<byte>();

    public bool IsDisposed { get; private set; }

    public override bool CanRead => !IsDisposed;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    public void Push(params ReadOnlySpan<byte> bytes)
    {
        foreach (byte each in bytes)
        {
            _bytes.Writer.TryWrite(each).Should().BeTrue();
        }
    }

    public void End() => _bytes.Writer.Complete();

    public void Fail(Exception exception) => _bytes.Writer.Complete(exception);

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (!await _bytes.Reader.WaitToReadAsync(cancellationToken))
        {
            return 0;
        }

        int count = 0;
        while (count < buffer.Length && _bytes.Reader.TryRead(out byte each))
        {
            buffer.Span[count++] = each;
        }

        return count;
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(byte[] buffer, int offset, int count) => _bytes.Reader.TryRead(out buffer[offset]) ? 1 : 0;

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        IsDisposed = true;
        base.Dispose(disposing);
    }
}
