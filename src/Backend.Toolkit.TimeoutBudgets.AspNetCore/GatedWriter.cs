using System.Buffers;
using System.IO.Pipelines;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

/// <summary>
/// Keeps what is written before the response starts, because a server's own writer gives nothing back; from then on it writes straight to that. Behind a closed gate it
/// keeps nothing.
/// </summary>
internal sealed class GatedWriter(RequestBudget gate) : PipeWriter
{
    private const int FirstSize = 4096;

    /// <summary>
    /// Rented. Returned only when it was handed on: a handler that is late may have left work behind that still writes into it.
    /// </summary>
    private byte[]? _kept;

    private int _count;

    public override bool CanGetUnflushedBytes => gate.Inner.Writer.CanGetUnflushedBytes;

    public override long UnflushedBytes => WritesThrough ? gate.Inner.Writer.UnflushedBytes : _count;

    private bool WritesThrough => _kept is null && gate.IsStarted;

    public override Memory<byte> GetMemory(int sizeHint = 0) => WritesThrough ? gate.Inner.Writer.GetMemory(sizeHint) : Space(sizeHint);

    public override Span<byte> GetSpan(int sizeHint = 0) => WritesThrough ? gate.Inner.Writer.GetSpan(sizeHint) : Space(sizeHint).Span;

    public override void Advance(int bytes)
    {
        if (WritesThrough)
        {
            gate.Inner.Writer.Advance(bytes);
            return;
        }

        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(bytes, (_kept?.Length ?? 0) - _count);
        _count = gate.IsClosed ? 0 : _count + bytes;
    }

    public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default) =>
        cancellationToken.IsCancellationRequested ? ValueTask.FromCanceled<FlushResult>(cancellationToken)
        : gate.TryPass() ? gate.Inner.Writer.FlushAsync(cancellationToken)
        : ValueTask.FromResult(NobodyReads());

    public override ValueTask<FlushResult> WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken = default) =>
        cancellationToken.IsCancellationRequested ? ValueTask.FromCanceled<FlushResult>(cancellationToken)
        : gate.TryPass() ? gate.Inner.Writer.WriteAsync(source, cancellationToken)
        : ValueTask.FromResult(NobodyReads());

    public override void CancelPendingFlush() => gate.Inner.Writer.CancelPendingFlush();

    public override void Complete(Exception? exception = null)
    {
        if (gate.TryPassLast(exception))
        {
            gate.Inner.Writer.Complete(exception);
        }
    }

    public override ValueTask CompleteAsync(Exception? exception = null) =>
        gate.TryPassLast(exception) ? gate.Inner.Writer.CompleteAsync(exception) : ValueTask.CompletedTask;

    /// <summary>Gives what was kept to the writer behind the gate, which does not flush it.</summary>
    internal void HandOn()
    {
        if (_kept is not null)
        {
            gate.Inner.Writer.Write(_kept.AsSpan(0, _count));
            ArrayPool<byte>.Shared.Return(_kept);
            _kept = null;
            _count = 0;
        }
    }

    private FlushResult NobodyReads()
    {
        _count = 0;
        return new FlushResult(isCanceled: false, isCompleted: true);
    }

    private Memory<byte> Space(int sizeHint)
    {
        int needed = _count + Math.Max(sizeHint, 1);
        if (_kept is null || _kept.Length < needed)
        {
            byte[] larger = ArrayPool<byte>.Shared.Rent(Math.Max(needed, _kept is null ? FirstSize : 2 * _kept.Length));
            if (_kept is not null)
            {
                _kept.AsSpan(0, _count).CopyTo(larger);
                ArrayPool<byte>.Shared.Return(_kept);
            }

            _kept = larger;
        }

        return _kept.AsMemory(_count);
    }
}
