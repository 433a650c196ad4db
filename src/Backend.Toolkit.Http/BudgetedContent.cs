using System.Net;
using Backend.Toolkit.TimeoutBudgets;

namespace Backend.Toolkit.Http;

/// <summary>
/// The body of a response, whose reading fails when the time of the call is over. Its headers are those of the body inside. Between two reads nothing
/// waits and nothing is held: a read that has its bytes at once costs a look at the clock, one that has to wait has a scope while it does.
/// </summary>
internal sealed class BudgetedContent : HttpContent
{
    private readonly HttpContent _inner;
    private readonly string _name;
    private readonly TimeProvider _timeProvider;
    private readonly long _start;
    private readonly TimeSpan _end;

    /// <param name="inner">The body; owned.</param>
    /// <param name="name">The name of the policy.</param>
    /// <param name="timeProvider">The clock.</param>
    /// <param name="start">The timestamp at which the call began.</param>
    /// <param name="end">How long after that its time is over.</param>
    public BudgetedContent(HttpContent inner, string name, TimeProvider timeProvider, long start, TimeSpan end)
    {
        _inner = inner;
        _name = name;
        _timeProvider = timeProvider;
        _start = start;
        _end = end;
        Wire.CopyHeaders(inner, this);
    }

    private TimeSpan Elapsed => _timeProvider.GetElapsedTime(_start);

    private bool IsSpent => Elapsed >= _end;

    protected override Task<Stream> CreateContentReadStreamAsync() => CreateContentReadStreamAsync(CancellationToken.None);

    protected override Task<Stream> CreateContentReadStreamAsync(CancellationToken cancellationToken)
    {
        var source = new CancellationTokenSource();
        Task<Stream> opening = _inner.ReadAsStreamAsync(source.Token);
        return opening.IsCompletedSuccessfully
            ? Task.FromResult<Stream>(new BudgetedStream(this, opening.Result, source))
            : AwaitAsync();

        async Task<Stream> AwaitAsync() =>
            new BudgetedStream(this, await this.AwaitAsync(new ValueTask<Stream>(opening), source, cancellationToken).ConfigureAwait(false), source);
    }

    protected override Stream CreateContentReadStream(CancellationToken cancellationToken)
    {
        ThrowIfSpent();
        return new BudgetedStream(this, _inner.ReadAsStream(cancellationToken), new CancellationTokenSource());
    }

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, CancellationToken.None);

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken) =>
        CopyAsync(static (target, token) => target._inner.CopyToAsync(target.stream, target.context, token), (_inner, stream, context), cancellationToken);

    /// <summary>Read by read, since a copy in one call would not look at the clock again.</summary>
    protected override void SerializeToStream(Stream stream, TransportContext? context, CancellationToken cancellationToken) =>
        CreateContentReadStream(cancellationToken).CopyTo(stream);

    protected override bool TryComputeLength(out long length)
    {
        long? known = _inner.Headers.ContentLength;
        length = known ?? 0;
        return known is not null;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _inner.Dispose();
        }

        base.Dispose(disposing);
    }

    /// <summary>The whole rest at once: such a copy may never have to wait, and never end, so it is watched from its start.</summary>
    private async Task CopyAsync<TTarget>(Func<TTarget, CancellationToken, Task> copy, TTarget target, CancellationToken cancellationToken)
    {
        ThrowIfSpent();
        using TimeoutBudget budget = Watch(cancellationToken);
        try
        {
            await copy(target, budget.Token).ConfigureAwait(false);
        }
        catch (Exception exception) when (Translate(exception, cancellationToken) is { } translated)
        {
            throw translated;
        }
    }

    /// <summary>Waits for what was started with the token of <paramref name="source"/>, and fires that when the time is over or the reader cancels.</summary>
    private async ValueTask<T> AwaitAsync<T>(ValueTask<T> pending, CancellationTokenSource source, CancellationToken cancellationToken)
    {
        using TimeoutBudget budget = Watch(cancellationToken);
        using CancellationTokenRegistration end = budget.Token.UnsafeRegister(static source => ((CancellationTokenSource)source!).Cancel(), source);
        try
        {
            return await pending.ConfigureAwait(false);
        }
        catch (Exception exception) when (Translate(exception, cancellationToken) is { } translated)
        {
            throw translated;
        }
    }

    private TimeoutBudget Watch(CancellationToken cancellationToken)
    {
        TimeSpan left = _end - Elapsed;
        return TimeoutBudget.StartDetached(left < TimeSpan.Zero ? TimeSpan.Zero : left, _name, _timeProvider, cancellationToken);
    }

    /// <summary>What comes out in place of the exception; null: the exception itself.</summary>
    private Exception? Translate(Exception exception, CancellationToken cancellationToken)
    {
        if (exception is not (OperationCanceledException or IOException or HttpRequestException))
        {
            return null;
        }

        if (cancellationToken.IsCancellationRequested)
        {
            return exception is OperationCanceledException ? new OperationCanceledException(exception.Message, exception, cancellationToken) : null;
        }

        return IsSpent ? Spent(exception) : null;
    }

    private void ThrowIfSpent()
    {
        if (IsSpent)
        {
            throw Spent(null);
        }
    }

    private TimeoutBudgetExceededException Spent(Exception? inner) => new(_name, _end, Elapsed, inner);

    private sealed class BudgetedStream(BudgetedContent content, Stream inner, CancellationTokenSource source) : Stream
    {
        private CancellationTokenSource _source = source;

        public override bool CanRead => inner.CanRead;

        public override bool CanSeek => inner.CanSeek;

        public override bool CanWrite => false;

        public override bool CanTimeout => inner.CanTimeout;

        public override int ReadTimeout { get => inner.ReadTimeout; set => inner.ReadTimeout = value; }

        public override long Length => inner.Length;

        public override long Position { get => inner.Position; set => inner.Position = value; }

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (cancellationToken.IsCancellationRequested)
            {
                return ValueTask.FromCanceled<int>(cancellationToken);
            }

            if (content.IsSpent)
            {
                return ValueTask.FromException<int>(content.Spent(null));
            }

            if (_source.IsCancellationRequested)
            {
                // By the reader of an earlier read, who reads on.
                _source = new CancellationTokenSource();
            }

            ValueTask<int> reading = inner.ReadAsync(buffer, _source.Token);
            return reading.IsCompletedSuccessfully ? reading : content.AwaitAsync(reading, _source, cancellationToken);
        }

        public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        /// <summary>A blocked thread cannot be told that the time is over: it is looked at before.</summary>
        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

        public override int Read(Span<byte> buffer)
        {
            content.ThrowIfSpent();
            return inner.Read(buffer);
        }

        public override Task CopyToAsync(Stream destination, int bufferSize, CancellationToken cancellationToken)
        {
            ValidateCopyToArguments(destination, bufferSize);
            return content.CopyAsync(
                static (copy, token) => copy.inner.CopyToAsync(copy.destination, copy.bufferSize, token), (inner, destination, bufferSize), cancellationToken);
        }

        public override long Seek(long offset, SeekOrigin origin) => inner.Seek(offset, origin);

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void Flush()
        {
        }

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                inner.Dispose();
            }

            base.Dispose(disposing);
        }
    }
}
