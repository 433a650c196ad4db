using System.Net;

namespace Backend.Toolkit.Http;

/// <summary>
/// A request's content, of which the first bytes were written into memory before anything was sent. When they are all, they can be sent again and again. When there
/// are more, the content is stopped in the middle of writing, and goes on into the request when that is sent, once: nothing is written twice, and nothing is lost.
/// </summary>
internal sealed class BufferedContent : HttpContent
{
    private readonly HttpContent _inner;
    private readonly Sink _sink;
    private readonly Task _writing;

    private BufferedContent(HttpContent inner, int limit, CancellationToken cancellationToken)
    {
        _inner = inner;
        _sink = new Sink(limit, cancellationToken);
        Wire.CopyHeaders(inner, this);
        _writing = inner.CopyToAsync(_sink, cancellationToken);
    }

    /// <summary>Whether all is in memory, so that it can be sent twice.</summary>
    public bool IsWhole => _writing.IsCompletedSuccessfully;

    /// <param name="inner">The content; owned.</param>
    /// <param name="limit">How many bytes are kept.</param>
    /// <param name="cancellationToken">Ends the wait, also for a content that does not listen to it.</param>
    /// <returns>The content when all was written, or the limit is reached.</returns>
    public static async Task<BufferedContent> StartAsync(HttpContent inner, int limit, CancellationToken cancellationToken)
    {
        var content = new BufferedContent(inner, limit, cancellationToken);
        try
        {
            await (await Task.WhenAny(content._writing, content._sink.Full).WaitAsync(cancellationToken).ConfigureAwait(false)).ConfigureAwait(false);
        }
        catch
        {
            content.Abandon();
            throw;
        }

        return content;
    }

    /// <summary>Ends the writing when what is left will never be sent.</summary>
    public void Abandon()
    {
        _sink.Cancel();
        _ = _writing.ContinueWith(static late => _ = late.Exception, CancellationToken.None, TaskContinuationOptions.OnlyOnFaulted, TaskScheduler.Default);
    }

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        bool whole = IsWhole;
        if (!whole && !_sink.TryClaim())
        {
            throw new InvalidOperationException("The content of this request cannot be sent twice.");
        }

        await stream.WriteAsync(_sink.Kept, cancellationToken).ConfigureAwait(false);
        if (!whole)
        {
            _sink.Open(stream, cancellationToken);
            await _writing.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    protected override bool TryComputeLength(out long length)
    {
        length = _sink.Kept.Length;
        return IsWhole;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Abandon();
            _inner.Dispose();
        }

        base.Dispose(disposing);
    }

    /// <summary>Keeps what is written up to the limit; what comes then waits for the request, or for its end. Written to by one flow at a time.</summary>
    private sealed class Sink(int limit, CancellationToken buffering) : Stream
    {
        private readonly MemoryStream _kept = new();
        private readonly TaskCompletionSource _full = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly TaskCompletionSource<(Stream Stream, CancellationToken Token)> _request = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private int _claimed;

        public Task Full => _full.Task;

        public ReadOnlyMemory<byte> Kept => _kept.GetBuffer().AsMemory(0, (int)_kept.Length);

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public bool TryClaim() => Interlocked.Exchange(ref _claimed, 1) == 0;

        public void Open(Stream stream, CancellationToken cancellationToken) => _request.TrySetResult((stream, cancellationToken));

        public void Cancel() => _request.TrySetCanceled();

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (!_full.Task.IsCompleted)
            {
                buffering.ThrowIfCancellationRequested();
                if (_kept.Length + buffer.Length <= limit)
                {
                    _kept.Write(buffer.Span);
                    return;
                }

                _full.TrySetResult();
            }

            (Stream stream, CancellationToken token) = await _request.Task.ConfigureAwait(false);
            await stream.WriteAsync(buffer, token).ConfigureAwait(false);
        }

        public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        /// <summary>Who writes synchronously cannot be made to wait: it is kept beyond the limit.</summary>
        public override void Write(byte[] buffer, int offset, int count)
        {
            buffering.ThrowIfCancellationRequested();
            if (_request.Task.IsCompletedSuccessfully)
            {
                _request.Task.Result.Stream.Write(buffer, offset, count);
            }
            else
            {
                _kept.Write(buffer, offset, count);
            }
        }

        public override async Task FlushAsync(CancellationToken cancellationToken)
        {
            if (_request.Task.IsCompletedSuccessfully)
            {
                (Stream stream, CancellationToken token) = _request.Task.Result;
                await stream.FlushAsync(token).ConfigureAwait(false);
            }
        }

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
