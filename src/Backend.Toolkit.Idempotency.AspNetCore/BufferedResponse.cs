using System.Buffers;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.WebUtilities;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>
/// Holds what the handler writes until the run has recorded its outcome: up to a cap in memory. Past it, or when the handler says that it streams (<c>DisableBuffering</c>, or a write of
/// <c>text/event-stream</c>), a run that may do so records first and writes through from then on; any other goes on holding, behind a bound in a temporary file. Other
/// flushes are no wish to stream: the framework's own writers flush after each piece. Written by one thread at a time, as every response.
/// </summary>
internal sealed class BufferedResponse(ProtectedRun run, IHttpResponseBodyFeature inner, int cap, int maxBytesInMemory) : Stream, IHttpResponseBodyFeature
{
    private const int FirstSize = 1024;

    private byte[] _kept = [];
    private int _count;
    private FileBufferingWriteStream? _spilled;
    private PipeWriter? _writer;
    private State _state;
    private bool _unbuffered;
    private bool _innerUnflushed;

    private enum State
    {
        Holding,
        WritingThrough,
        Closed,
    }

    /// <summary>The response is under way.</summary>
    public bool IsWritingThrough => _state == State.WritingThrough;

    /// <summary>The whole body; only when it has not spilled over.</summary>
    public ReadOnlySpan<byte> Kept => _kept.AsSpan(0, _count);

    public bool HasSpilled => _spilled is not null;

    public Stream Stream => this;

    public PipeWriter Writer => _writer ??= PipeWriter.Create(new BehindWriter(this), new StreamPipeWriterOptions(leaveOpen: true));

    public override bool CanRead => false;

    /// <summary>Only so far that <c>HttpResponse.Clear</c> can take back what was written.</summary>
    public override bool CanSeek => _state == State.Holding;

    public override bool CanWrite => true;

    public override long Length => _count + (_spilled?.Length ?? 0);

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

    public async Task StartAsync(CancellationToken cancellationToken = default)
    {
        if (WantsToStream() && await TryWriteThroughAsync().ConfigureAwait(false))
        {
            await inner.StartAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    public async Task SendFileAsync(string path, long offset, long? count, CancellationToken cancellationToken = default)
    {
        await FlushWriterAsync().ConfigureAwait(false);
        long length = count ?? (new FileInfo(path).Length - offset);
        if (_state == State.Holding && (_spilled is not null || length > cap - _count))
        {
            await TryWriteThroughAsync().ConfigureAwait(false);
        }

        await (_state switch
        {
            State.WritingThrough => QuietlyAsync(inner.SendFileAsync(path, offset, count, cancellationToken)),
            State.Closed => Task.CompletedTask,
            _ => SendFileFallback.SendFileAsync(this, path, offset, count, cancellationToken),
        }).ConfigureAwait(false);
    }

    public async Task CompleteAsync()
    {
        await FlushWriterAsync().ConfigureAwait(false);
        if (_state == State.WritingThrough)
        {
            await QuietlyAsync(inner.CompleteAsync()).ConfigureAwait(false);
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
        cancellationToken.ThrowIfCancellationRequested();
        await FlushWriterAsync().ConfigureAwait(false);
        await FlushHeldAsync(cancellationToken).ConfigureAwait(false);
    }

    private async Task FlushHeldAsync(CancellationToken cancellationToken)
    {
        if (_state == State.WritingThrough || (WantsToStream() && await TryWriteThroughAsync().ConfigureAwait(false)))
        {
            await QuietlyAsync(inner.Stream.FlushAsync(cancellationToken)).ConfigureAwait(false);
        }
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    /// <summary>Recording is asynchronous, so that what overflows here is held all the same.</summary>
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        if (HasUnflushed)
        {
            // The one blocking wait: who mixes synchronous writes with the writer has asked for it, and the order of the bytes must hold.
            FlushWriterAsync().AsTask().GetAwaiter().GetResult();
        }

        if (_state == State.WritingThrough)
        {
            inner.Stream.Write(buffer);
        }
        else
        {
            Hold(buffer);
        }
    }

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
        cancellationToken.IsCancellationRequested ? ValueTask.FromCanceled(cancellationToken)
        : HasUnflushed ? WriteBehindWriterAsync(buffer, cancellationToken)
        : AppendAsync(buffer, cancellationToken);

    private ValueTask AppendAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken) =>
        _state == State.Closed || (_state == State.Holding && !WantsToStream() && TryKeep(buffer.Span)) ? ValueTask.CompletedTask
        : WriteSlowlyAsync(buffer, cancellationToken);

    /// <summary>The handler has returned: what it left in the writer is written, too.</summary>
    public async ValueTask FlushWriterAsync()
    {
        if (HasUnflushed)
        {
            await _writer!.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        }

        if (_innerUnflushed)
        {
            _innerUnflushed = false;
            await QuietlyAsync(inner.Writer.FlushAsync(CancellationToken.None).AsTask()).ConfigureAwait(false);
        }
    }

    /// <summary>Sends all that is held; from then on, what somebody still writes goes nowhere.</summary>
    public async ValueTask SendAsync()
    {
        _state = State.Closed;
        await QuietlyAsync(SendHeldAsync()).ConfigureAwait(false);
    }

    private bool HasUnflushed => _writer is { UnflushedBytes: > 0 };

    /// <summary>Deletes the temporary file. Not <c>DisposeAsync</c>: handlers dispose of the body that they write to.</summary>
    public ValueTask ReleaseAsync() => _spilled?.DisposeAsync() ?? ValueTask.CompletedTask;

    /// <summary>Forgets all that is held; what is still written goes nowhere.</summary>
    public void Discard()
    {
        _state = State.Closed;
        Drop();
    }

    /// <summary>A server has one pipe for both.</summary>
    private async ValueTask WriteBehindWriterAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken)
    {
        await FlushWriterAsync().ConfigureAwait(false);
        await AppendAsync(buffer, cancellationToken).ConfigureAwait(false);
    }

    private void Hold(ReadOnlySpan<byte> buffer)
    {
        if (_state == State.Holding && !TryKeep(buffer))
        {
            Spill().Write(buffer);
        }
    }

    /// <summary>The writer is completed, which servers allow also where they allow no synchronous writes.</summary>
    private void AppendAtCompletion(ReadOnlySpan<byte> buffer)
    {
        if (_state == State.WritingThrough)
        {
            inner.Writer.Write(buffer);
            _innerUnflushed = true;
        }
        else
        {
            Hold(buffer);
        }
    }

    private async ValueTask WriteSlowlyAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken)
    {
        if (_state == State.Holding)
        {
            await TryWriteThroughAsync().ConfigureAwait(false);
        }

        if (_state == State.WritingThrough)
        {
            await QuietlyAsync(inner.Stream.WriteAsync(buffer, cancellationToken).AsTask()).ConfigureAwait(false);
        }
        else if (_state == State.Holding && !TryKeep(buffer.Span))
        {
            await Spill().WriteAsync(buffer, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Servers send what is written to the stream at once, so whoever streams need not flush: <c>TypedResults.ServerSentEvents</c> does not.</summary>
    private bool WantsToStream() => _state == State.Holding
        && (_unbuffered || run.ContentType?.StartsWith("text/event-stream", StringComparison.OrdinalIgnoreCase) == true);

    private async ValueTask<bool> TryWriteThroughAsync()
    {
        if (!run.MayStream)
        {
            return false;
        }

        try
        {
            await run.RecordEarlyAsync().ConfigureAwait(false);
        }
        catch (Exception)
        {
            // Whoever wrote hears of it; the middleware answers in any case.
            Discard();
            throw;
        }

        _state = State.WritingThrough;
        if (_unbuffered)
        {
            inner.DisableBuffering();
        }

        await QuietlyAsync(SendHeldAsync()).ConfigureAwait(false);
        Drop();
        return true;
    }

    /// <summary>Not with the client's token, which others outside may have replaced by that of a timeout: a server ends what is written to nobody.</summary>
    private async Task SendHeldAsync()
    {
        if (_count > 0)
        {
            await inner.Stream.WriteAsync(_kept.AsMemory(0, _count), CancellationToken.None).ConfigureAwait(false);
        }

        if (_spilled is not null)
        {
            await _spilled.DrainBufferAsync(inner.Stream, CancellationToken.None).ConfigureAwait(false);
        }
    }

    /// <summary>A client that has gone is nobody's failure.</summary>
    private async Task QuietlyAsync(Task sending)
    {
        try
        {
            await sending.ConfigureAwait(false);
        }
        catch (Exception exception) when (run.Client.IsCancellationRequested && exception is OperationCanceledException or IOException)
        {
            // Said above.
        }
    }

    private bool TryKeep(ReadOnlySpan<byte> data)
    {
        if (_spilled is not null || data.Length > cap - _count)
        {
            return false;
        }

        int needed = _count + data.Length;
        if (needed > _kept.Length)
        {
            Array.Resize(ref _kept, Math.Min(cap, Math.Max(needed, Math.Max(FirstSize, 2 * _kept.Length))));
        }

        data.CopyTo(_kept.AsSpan(_count));
        _count = needed;
        return true;
    }

    private FileBufferingWriteStream Spill() => _spilled ??= new FileBufferingWriteStream(maxBytesInMemory);

    private void Drop()
    {
        _count = 0;
        _spilled?.Dispose();
        _spilled = null;

        // With what it has not flushed.
        _writer = _state == State.WritingThrough ? _writer : null;
    }

    /// <summary>Where the writer puts what it is told to flush: behind all that was written before, which the stream itself would make it flush first.</summary>
    private sealed class BehindWriter(BufferedResponse response) : Stream
    {
        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Flush()
        {
        }

        public override Task FlushAsync(CancellationToken cancellationToken) => response.FlushHeldAsync(cancellationToken);

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Write(ReadOnlySpan<byte> buffer) => response.AppendAtCompletion(buffer);

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) => response.AppendAsync(buffer, cancellationToken);
    }
}
