using System.IO.Pipelines;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>
/// Holds what the handler writes until the message is committed or released, so that no sender is told of an outcome that is not recorded yet. What is longer than the cap, or says that it streams, leaves as it is written.
/// Written by one thread at a time, as every response.
/// </summary>
internal sealed class HeldResponse(IHttpResponseBodyFeature inner, int cap) : Stream, IHttpResponseBodyFeature
{
    private const int FirstSize = 256;

    private byte[] _kept = [];
    private int _count;
    private State _state;
    private bool _unbuffered;
    private PipeWriter? _writer;

    private enum State
    {
        Holding,
        WritingThrough,
        Closed,
    }

    public Stream Stream => this;

    public PipeWriter Writer => _writer ??= PipeWriter.Create(this, new StreamPipeWriterOptions(leaveOpen: true));

    public override bool CanRead => false;

    /// <summary>Only so far that <c>HttpResponse.Clear</c> can take back what was written.</summary>
    public override bool CanSeek => _state == State.Holding;

    public override bool CanWrite => true;

    public override long Length => _count;

    public override long Position
    {
        get => Length;
        set => throw new NotSupportedException();
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value)
    {
        if (value != 0 || _state != State.Holding)
        {
            throw new NotSupportedException();
        }

        Drop();
    }

    public void DisableBuffering() => _unbuffered = true;

    /// <summary>The framework's own writers start and flush after each piece; that is no wish to stream.</summary>
    public async Task StartAsync(CancellationToken cancellationToken = default)
    {
        if (await WritesThroughAsync(0, cancellationToken).ConfigureAwait(false))
        {
            await inner.StartAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    public Task SendFileAsync(string path, long offset, long? count, CancellationToken cancellationToken = default) => SendFileFallback.SendFileAsync(this, path, offset, count, cancellationToken);

    public async Task CompleteAsync()
    {
        await FlushWriterAsync().ConfigureAwait(false);
        if (_state == State.WritingThrough)
        {
            await inner.CompleteAsync().ConfigureAwait(false);
        }
    }

    public override void Flush()
    {
        if (_state == State.WritingThrough)
        {
            inner.Stream.Flush();
        }
    }

    public override async Task FlushAsync(CancellationToken cancellationToken)
    {
        if (await WritesThroughAsync(0, cancellationToken).ConfigureAwait(false))
        {
            await inner.Stream.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        if (_state == State.Holding && buffer.Length > cap - _count)
        {
            inner.Stream.Write(_kept.AsSpan(0, _count));
            Drop();
            _state = State.WritingThrough;
        }

        if (_state == State.WritingThrough)
        {
            inner.Stream.Write(buffer);
        }
        else if (_state == State.Holding)
        {
            Keep(buffer);
        }
    }

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (await WritesThroughAsync(buffer.Length, cancellationToken).ConfigureAwait(false))
        {
            await inner.Stream.WriteAsync(buffer, cancellationToken).ConfigureAwait(false);
        }
        else if (_state == State.Holding)
        {
            Keep(buffer.Span);
        }
    }

    /// <summary>The handler has returned: what it left in the writer is written, too.</summary>
    public async ValueTask FlushWriterAsync()
    {
        if (_writer is { CanGetUnflushedBytes: true, UnflushedBytes: > 0 })
        {
            await _writer.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        }
    }

    /// <summary>Sends all that is held; from then on, what somebody still writes goes nowhere.</summary>
    public async ValueTask SendAsync(HttpResponse response, CancellationToken client)
    {
        bool isWhole = _state == State.Holding;
        _state = State.Closed;
        if (isWhole && _count > 0)
        {
            // Trailers need a body without a length in HTTP/1.1.
            IHeaderDictionary headers = response.Headers;
            if (headers.ContentLength is null && headers.TransferEncoding.Count == 0 && headers.Trailer.Count == 0)
            {
                headers.ContentLength = _count;
            }

            await inner.Stream.WriteAsync(_kept.AsMemory(0, _count), client).ConfigureAwait(false);
        }
    }

    /// <summary>Forgets all that is held; what is still written goes nowhere.</summary>
    public void Discard()
    {
        _state = State.Closed;
        Drop();
    }

    private async ValueTask<bool> WritesThroughAsync(int more, CancellationToken cancellationToken)
    {
        if (_state == State.Holding && (_unbuffered || more > cap - _count))
        {
            if (_unbuffered)
            {
                inner.DisableBuffering();
            }

            _state = State.WritingThrough;
            if (_count > 0)
            {
                await inner.Stream.WriteAsync(_kept.AsMemory(0, _count), cancellationToken).ConfigureAwait(false);
                Drop();
            }
        }

        return _state == State.WritingThrough;
    }

    private void Keep(ReadOnlySpan<byte> data)
    {
        int needed = _count + data.Length;
        if (needed > _kept.Length)
        {
            Array.Resize(ref _kept, Math.Min(cap, Math.Max(needed, Math.Max(FirstSize, 2 * _kept.Length))));
        }

        data.CopyTo(_kept.AsSpan(_count));
        _count = needed;
    }

    private void Drop()
    {
        _count = 0;

        // With what it has not flushed.
        _writer = _state == State.WritingThrough ? _writer : null;
    }
}
